from __future__ import annotations

from pathlib import Path

import pytest

from limen.device.admission import AdmissionPolicy
from limen.device.config import DoorConfig, load_config
from limen.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "door.toml").write_text(text, "utf-8")
    return tmp_path / "door.toml"


def test_empty_configuration_is_the_default_door(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, ""))
    assert config.admission_policy() == AdmissionPolicy(rearm_s=2.0)
    assert (config.source, config.unlock_for_s, config.lock.kind) == ("camera", 3.0, "simulated")
    assert config.gallery == tmp_path / "gallery.sqlite"
    assert config.bundle is None


def test_every_key_is_described() -> None:
    door = DoorConfig()
    tables = [door, door.lock, door.second_factor, door.limits]
    described = [field for table in tables for field in type(table).model_fields.values()]
    assert all(field.description for field in described)


def test_gpio_lock_with_a_second_factor_for_everybody_needs_no_further_word(
    tmp_path: Path,
) -> None:
    text = '[lock]\nkind = "gpio"\npin = 17\n[second_factor]\ndemand = "always"\n'
    config = load_config(written(tmp_path, text))
    assert config.admission_policy().contested_votes
    assert config.second_factor.file == tmp_path / "second-factors.json"


def test_paths_start_at_the_configurations_folder(tmp_path: Path) -> None:
    text = 'gallery = "g.db"\nbundle = "/b/x.limen"\nsource = "clips/a.mp4"\nvotes = 2\n'
    config = load_config(
        written(tmp_path, text + '[lock]\nkind = "gpio"\npin = 17\naccept_no_liveness = true\n')
    )
    assert config.gallery == tmp_path / "g.db"
    assert config.bundle == Path("/b/x.limen")
    assert config.source == str(tmp_path / "clips/a.mp4")
    assert (config.lock.pin, config.votes) == (17, 2)
    stream = load_config(written(tmp_path, 'source = "rtsp://u:p@cam/x"'))
    assert stream.source == "rtsp://u:p@cam/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unlock_for = 3.0", "unknown key 'unlock_for'; did you mean 'unlock_for_s'"),
        ("[lock]\npim = 3", "unknown key 'lock.pim'; did you mean 'pin'"),
        ("unlock_for_s = 31.0", "unlock_for_s"),
        ("unlock_for_s = nan", "unlock_for_s"),
        ("votes = 6", r"votes \(6\) is more than window \(5\)"),
        ('[lock]\nkind = "gpio"', r"set lock\.pin"),
        ("[lock]\npin = 40", r"lock\.pin"),
        ('[lock]\nkind = "gpio"\npin = 17', "accept_no_liveness"),
        ('[lock]\nkind = "gpio"\npin = 17\n[second_factor]\ndemand = "contested"', "photograph"),
        ('[lock]\nkind = "gpio"\npin = 17\nexit_pin = 17\naccept_no_liveness = true', "differ"),
        (
            'unlock_for_s = 12.0\n[lock]\nkind = "gpio"\npin = 17\naccept_no_liveness = true',
            "max_pulse_s",
        ),
        ("[schedules]\noffice = []", "limen subjects describe"),
        ('[rights]\ndefault = ["never"]', "in the gallery now"),
        ("votes = \n", "not valid TOML.*line 1"),
        ('runtime = "torch"', "runtime"),
    ],
)
def test_wrong_configuration_names_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


def test_password_in_a_wrong_configuration_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(written(tmp_path, 'source = ["rtsp://u:s3cr3t@cam/x"]'))
    assert "s3cr3t" not in str(raised.value)


def test_configuration_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'source = "\xe9"')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "latin.toml")
