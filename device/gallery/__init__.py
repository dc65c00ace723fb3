"""The gallery: who may enter, sealed in one SQLite file, bound to one model and one key."""

from limen.device.gallery.gallery import Gallery
from limen.device.subjects import References, SubjectRecord, checked_subject_id

__all__ = ["Gallery", "References", "SubjectRecord", "checked_subject_id"]
