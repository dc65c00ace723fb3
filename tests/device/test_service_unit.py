from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limen.device.lock_process.settings import LockSettings
from limen.device.service_unit import ServicePlan, units
from limen.errors import ConfigError

PLAN = ServicePlan(
    python=Path(sys.executable).absolute(),
    config=Path("/etc/limen/door.toml"),
    state=Path("/var/lib/limen"),
    lock=LockSettings(pin=17, exit_pin=23),
)
EVERY = [
    PLAN,
    ServicePlan(python=PLAN.python, config=PLAN.config, state=PLAN.state, network=True),
    ServicePlan(
        python=PLAN.python,
        config=Path("/home/pi/door.toml"),
        state=Path("/home/pi/limen"),
        keypad=Path("/dev/input/by-id/usb-keypad"),
    ),
]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("plan", EVERY)
def test_systemd_finds_no_fault_with_the_units_and_little_exposure(
    plan: ServicePlan, tmp_path: Path
) -> None:
    texts = units(plan)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in texts]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in paths:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=30", path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_mistyped_key_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "limen.service"
    path.write_text(units(EVERY[1])["limen.service"].replace("UMask=", "UMaks="))
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(path)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0


def test_lock_alone_reaches_pins_and_the_door_alone_cameras() -> None:
    texts = units(PLAN)
    door, lock = texts["limen.service"], texts["limen-lock.service"]
    assert "gpio" not in door
    assert "video" not in lock
    assert "After=limen-lock.service" in door
    assert '"pin":17' in lock
    assert set(units(EVERY[1])) == {"limen.service"}


@pytest.mark.parametrize(
    "values",
    [
        {"user": "a b"},
        {"user": "Root!"},
        {"config": Path("door.toml")},
        {"state": Path("/var/lib/my limen")},
        {"config": Path("/etc/50%.toml")},
        {"memory_mb": 10},
    ],
)
def test_what_a_unit_cannot_name_is_refused(values: dict[str, object]) -> None:
    every = {"python": PLAN.python, "config": PLAN.config, "state": PLAN.state, **values}
    with pytest.raises(ConfigError, match="expected"):
        ServicePlan(**every)  # type: ignore[arg-type]


def test_what_the_board_remembers_of_bundles_lies_where_the_service_may_write() -> None:
    text = units(PLAN)["limen.service"]
    assert f"ReadWritePaths={PLAN.state}\n" in text
    assert f"Environment=STATE_DIRECTORY={PLAN.state}\n" in text
