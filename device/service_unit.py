"""systemd units for a door that starts at boot: one for the door, one for the lock's pin.

Two processes with two sets of rights: the door sees cameras and no pins, the lock drives pins and
sees neither cameras nor the gallery. Options are those of systemd.exec(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from limen.device.lock_process.settings import LockSettings
from limen.errors import ConfigError

LOCK_SOCKET = Path("/run/limen-lock/lock.sock")
DOOR_UNIT, LOCK_UNIT = "limen.service", "limen-lock.service"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")

# What neither process needs. Each line takes something away that a mistake could be turned into.
_HARDENED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
DevicePolicy=closed
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask=0077
"""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What the units name.

    python: the interpreter of the environment that limen is installed in; config: the door's file;
    state: the folder that holds gallery, events and second factors, the only one that is written;
    user: whom both run as. network: whether the camera is reached over the network. lock: the
    pins, None where the lock is simulated. ConfigError for a path or user that a unit cannot name.
    """

    python: Path
    config: Path
    state: Path
    user: str = "limen"
    network: bool = False
    keypad: Path | None = None
    lock: LockSettings | None = None
    memory_mb: int = 400

    def __post_init__(self) -> None:
        if not _USER.fullmatch(self.user):
            raise ConfigError(f"user: expected a system user's name, found {self.user!r}")
        for path in (self.python, self.config, self.state, *([self.keypad] if self.keypad else [])):
            if not path.is_absolute() or re.search(r"[\s\"'\\%$;]", str(path)):
                raise ConfigError(
                    f"{path}: expected an absolute path without spaces or quotes: move it, or "
                    "name another"
                )
        if not 64 <= self.memory_mb <= 65536:
            raise ConfigError(f"memory: expected 64 to 65536 MB, found {self.memory_mb}")


def door_unit(plan: ServicePlan) -> str:
    """The text of limen.service."""
    lock = plan.lock is not None
    after = f"After={LOCK_UNIT}\nRequires={LOCK_UNIT}\n" if lock else ""
    # libcamera hears of devices over netlink.
    families = "AF_UNIX AF_NETLINK" + (" AF_INET AF_INET6" if plan.network else "")
    offline = "" if plan.network else "PrivateNetwork=yes\nIPAddressDeny=any\n"
    allowed = ["char-video4linux rw", "char-media rw", "char-dma_heap rw", "char-drm rw"]
    groups = "video render"
    if plan.keypad is not None:
        allowed.append("char-input r")
        groups += " input"
    devices = "\n".join(f"DeviceAllow={each}" for each in allowed)
    return f"""\
# Written by 'limen install-service'; change the configuration and run it again.
[Unit]
Description=limen: recognises the people a door was taught
{after}StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={plan.python} -m limen.cli.main run --config {plan.config}
ExecReload=/bin/kill -HUP $MAINPID
User={plan.user}
Group={plan.user}
SupplementaryGroups={groups}
Restart=always
RestartSec=2
TimeoutStartSec=120
TimeoutStopSec=5
WatchdogSec=15
MemoryMax={plan.memory_mb}M
TasksMax=64
Nice=-5
ReadWritePaths={plan.state}
Environment=STATE_DIRECTORY={plan.state}
StandardOutput=journal
StandardError=journal
RestrictAddressFamilies={families}
{offline}{devices}
ProtectHome={_home(plan)}
{_HARDENED}
[Install]
WantedBy=multi-user.target
"""


def lock_unit(plan: ServicePlan) -> str:
    """The text of limen-lock.service. ConfigError where no pins are configured."""
    if plan.lock is None:
        raise ConfigError("a simulated lock needs no service: set lock.kind = 'gpio'")
    # JSON between single quotes: systemd leaves it alone but for '%' and '$', which it has none of.
    return f"""\
# Written by 'limen install-service'; change the configuration and run it again.
[Unit]
Description=limen: owns the lock's pin
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={plan.python} -m limen.device.lock_process --socket {LOCK_SOCKET} '{plan.lock.to_json()}'
User={plan.user}
Group={plan.user}
SupplementaryGroups=gpio
Restart=always
RestartSec=1
TimeoutStopSec=3
WatchdogSec=3
MemoryMax=64M
TasksMax=8
RuntimeDirectory=limen-lock
RuntimeDirectoryMode=0750
WorkingDirectory=/run/limen-lock
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
DeviceAllow=char-gpiochip rw
MemoryDenyWriteExecute=yes
ProtectHome={_home(plan)}
{_HARDENED}
[Install]
WantedBy=multi-user.target
"""


def _home(plan: ServicePlan) -> str:
    """What the units see of /home: nothing, unless something that they need lies there."""
    needed = (plan.python, plan.config, plan.state)
    return "read-only" if any(path.is_relative_to("/home") for path in needed) else "yes"


def units(plan: ServicePlan) -> dict[str, str]:
    """The text of each unit by the name of its file."""
    found = {DOOR_UNIT: door_unit(plan)}
    if plan.lock is not None:
        found[LOCK_UNIT] = lock_unit(plan)
    return found
