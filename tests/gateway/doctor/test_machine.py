import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from gateway.doctor import machine as doctor_machine
from gateway.doctor.findings import Finding


def look(settings: Settings) -> dict[str, Finding]:
    return {f.check: f for f in doctor_machine.findings(settings)}


def test_hot_agents_that_would_not_fit_into_memory_are_a_warning() -> None:
    assert look(Settings())["memory"].level == "ok"
    finding = look(Settings(hot_bytes=2**40))["memory"]
    assert finding.level == "warning"
    assert (finding.remedy or "").startswith("set WAKEFUL_HOT_BYTES=")


def test_a_containers_limit_counts_more_than_the_machines_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    monkeypatch.setattr(doctor_machine, "CGROUP_LIMITS", (str(limit),))
    assert doctor_machine.available_bytes() == 1_000_000
    limit.write_text("max\n")
    assert (doctor_machine.available_bytes() or 0) > 1_000_000


@pytest.mark.parametrize(("free", "level"), [(10**8, "error"), (10**9, "warning"), (10**11, "ok")])
def test_a_disk_that_is_nearly_full_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    usage: Any = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert look(Settings(data_dir=str(tmp_path / "not" / "yet")))["data directory"].level == level


@pytest.mark.parametrize(
    ("kind", "container", "level"),
    [
        ("overlay", True, "warning"),
        ("overlay", False, "ok"),
        ("tmpfs", False, "warning"),
        ("ext4", True, "ok"),
    ],
)
def test_a_data_directory_that_ends_with_its_container_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, container: bool, level: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / {tmp_path} rw shared:1 - {kind} /dev/sdb rw\n"
    )
    monkeypatch.setattr(doctor_machine, "MOUNTS", str(mounts))
    monkeypatch.setattr(doctor_machine, "in_container", lambda: container)
    assert look(Settings(data_dir=str(tmp_path / "data")))["volume"].level == level


def test_with_another_database_and_a_name_the_directory_does_not_matter() -> None:
    settings = Settings(database_url="postgresql://h/d", host_name="me", data_dir="/proc/nowhere")
    assert set(look(settings)) == {"platform", "memory"}


def test_a_directory_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert look(Settings(data_dir=str(tmp_path / "data")))["data directory"].level == "error"


def test_a_process_is_measured_and_a_missing_one_is_not() -> None:
    measured = doctor_machine.resident(os.getpid())
    assert measured is not None
    assert measured[0] > 1_000_000
    assert doctor_machine.resident(2**22 + 1) is None


def test_a_file_in_the_place_of_the_data_directory_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for inside in ("file", "file/data"):
        found = look(Settings(data_dir=str(tmp_path / inside)))["data directory"]
        assert (found.level, found.text) == ("error", f"{tmp_path / 'file'} is no directory")
