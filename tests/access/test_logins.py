"""Codes and logins, wherever they are kept."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from claude_proxy.access.login_store import FileStore, Login
from claude_proxy.access.logins import CODE_SECONDS, LOGIN_SECONDS, MAX_LOGINS, SIGNED_SECONDS, Kept, Logins
from claude_proxy.errors import Unavailable

NOT_A_FOLDER = "not a folder"


class Clock:
    """Unix time by hand; file times follow it only where a test says so."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[Kept.FILES, Kept.MEMORY], ids=lambda kept: kept.name)
def logins(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Logins:
    found = Logins(tmp_path if request.param is Kept.FILES else None, clock)
    found.start(alone=True)
    assert found.kept is request.param
    return found


@pytest.fixture
def in_files(tmp_path: Path, clock: Clock) -> Logins:
    found = Logins(tmp_path, clock)
    found.start(alone=True)
    return found


def code_of(logins: Logins) -> str:
    code = logins.make_code()
    assert code is not None
    return code


# -- codes


def test_a_code_works_once(logins: Logins) -> None:
    code = code_of(logins)
    assert logins.take_code(code)
    assert not logins.take_code(code)


@pytest.mark.parametrize("late", [0, 1, 10_000])
def test_a_code_works_for_fifteen_minutes(logins: Logins, clock: Clock, late: int) -> None:
    first, second = code_of(logins), code_of(logins)
    clock.now += CODE_SECONDS - 1
    assert logins.take_code(first)
    clock.now += 1 + late
    assert not logins.take_code(second)


@pytest.mark.parametrize(
    "text", ["{}", " {}\n", "http://localhost:3000/login#code={}", "https://host.example/claude/login#code={} "]
)
def test_a_code_may_be_pasted_with_its_link(logins: Logins, text: str) -> None:
    assert logins.take_code(text.format(code_of(logins)))


def test_a_code_may_be_typed_in_capitals(logins: Logins) -> None:
    assert logins.take_code(code_of(logins).upper())


@pytest.mark.parametrize(
    "text", ["", "x", "#code=", "../../etc/passwd", "\0", "\ud800", "a" * 10_000, "한국어"], ids=lambda t: t[:20]
)
def test_anything_else_is_no_code(logins: Logins, text: str) -> None:
    code_of(logins)
    assert not logins.take_code(text)


def test_codes_cannot_be_guessed(logins: Logins) -> None:
    codes = {code_of(logins) for _ in range(100)}
    assert len(codes) == 100
    assert all(len(code) == 32 and code.isalnum() and code == code.lower() for code in codes)


def test_of_many_that_take_a_code_at_once_one_gets_it(tmp_path: Path) -> None:
    """Each with a store of its own, as several workers have."""
    workers = [Logins(tmp_path) for _ in range(8)]
    for worker in workers:
        worker.start(alone=False)
    for _ in range(20):
        code, took, ready = code_of(workers[0]), [], threading.Barrier(len(workers))

        def take(worker: Logins, code: str, took: list[bool], ready: threading.Barrier) -> None:
            ready.wait()
            took.append(worker.take_code(code))

        threads = [threading.Thread(target=take, args=(worker, code, took, ready)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(took) == [False] * 7 + [True]


# -- logins


def test_a_login_is_found_by_its_cookie_alone(logins: Logins) -> None:
    login, value = logins.add("192.0.2.7", "Firefox")
    other, _ = logins.add("192.0.2.8", "Chrome")
    found = logins.find(value)
    assert found is not None
    assert (found.id, found.peer, found.browser) == (login.id, "192.0.2.7", "Firefox")
    secret = value.partition(".")[2]
    for wrong in (
        f"{login.id}.",
        f"{login.id}.{secret}x",
        f"{login.id}.{secret[:-1]}",
        f"{other.id}.{secret}",
        login.id,
        secret,
        "",
    ):
        assert logins.find(wrong) is None
    assert logins.find(f"{login.id}.{login.digest}") is None


@pytest.mark.parametrize(
    "id", ["..", "../login-x", "0123456789abcde/", "0123456789ABCDEF", "0" * 15, "0" * 17, "0123456789abcde\0", ""]
)
def test_an_id_cannot_name_another_file(logins: Logins, id: str) -> None:
    assert logins.find(f"{id}.secret") is None
    assert not logins.revoke(id)


def test_a_login_lasts_thirty_days(logins: Logins, clock: Clock) -> None:
    _, value = logins.add("", "")
    clock.now += LOGIN_SECONDS - 1
    assert logins.find(value)
    clock.now += 1
    assert logins.find(value) is None
    assert logins.all() == []


def test_a_revoked_login_is_gone(logins: Logins) -> None:
    login, value = logins.add("", "")
    assert logins.revoke(login.id)
    assert not logins.revoke(login.id)
    assert logins.find(value) is None


def test_logins_are_listed_by_their_last_use(logins: Logins, clock: Clock, tmp_path: Path) -> None:
    made = []
    for _ in range(3):
        clock.now += 1000
        login, value = logins.add("", "")
        made.append((login, value))
        if (path := tmp_path / "logins" / f"login-{login.id}").exists():
            os.utime(path, (clock.now, clock.now))
    clock.now += 1000
    logins.find(made[1][1])
    assert [login.id for login in logins.all()] == [made[at][0].id for at in (1, 2, 0)]
    assert logins.all()[0].used_at == int(clock.now)


def test_there_are_at_most_so_many(logins: Logins, clock: Clock) -> None:
    values = []
    for _ in range(MAX_LOGINS + 5):
        clock.now += 1
        values.append(logins.add("", "")[1])
    assert len(logins.all()) == MAX_LOGINS
    assert logins.find(values[-1])


def test_a_browsers_name_is_cleaned_and_bounded(logins: Logins) -> None:
    login, _ = logins.add("192.0.2.7", "\x1b[31m" + "x" * 10_000)
    assert login.browser.isprintable()
    assert len(login.browser) <= 200


# -- files


def test_files_hold_no_secret_and_are_for_one_user(in_files: Logins, tmp_path: Path) -> None:
    code = code_of(in_files)
    _, value = in_files.add("192.0.2.7", "Firefox")
    folder = tmp_path / "logins"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert len(files) == 2
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for secret in (code, value.partition(".")[2]):
            assert secret not in path.name
            assert secret.encode() not in path.read_bytes()


def test_logins_survive_a_restart_and_are_known_to_all_workers(in_files: Logins, tmp_path: Path, clock: Clock) -> None:
    code = code_of(in_files)
    login, value = in_files.add("192.0.2.7", "Firefox")
    other = Logins(tmp_path, clock)
    other.start(alone=False)
    assert other.find(value)
    assert other.take_code(code)
    assert other.revoke(login.id)
    assert in_files.find(value) is None


def test_a_start_sweeps_what_has_expired_and_leaves_the_rest(in_files: Logins, tmp_path: Path, clock: Clock) -> None:
    code_of(in_files)
    in_files.add("", "")
    folder = tmp_path / "logins"
    (folder / "notes").write_text("mine")
    (folder / "login-broken").write_text("{")
    clock.now += CODE_SECONDS
    Logins(tmp_path, clock).start(alone=True)
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["login", "login", "notes"]
    clock.now += LOGIN_SECONDS
    Logins(tmp_path, clock).start(alone=True)
    assert sorted(path.name for path in folder.iterdir()) == ["login-broken", "notes"]


def test_drafts_of_a_killed_process_are_swept_after_an_hour(in_files: Logins, tmp_path: Path, clock: Clock) -> None:
    names = [".login-0123456789abcdef-a1", ".code-0123-a1", ".probe-a1"]
    for age in (3599, 3600):
        for name in names:
            (tmp_path / "logins" / name).write_bytes(b"")
            os.utime(tmp_path / "logins" / name, (clock.now - age, clock.now - age))
        Logins(tmp_path, clock).start(alone=True)
        left = sorted(path.name for path in (tmp_path / "logins").iterdir())
        assert left == (sorted(names) if age == 3599 else [])


@pytest.mark.parametrize("content", [b"", b"{", b"null", b'{"id": 1}', b"\xff\0"])
def test_a_broken_file_is_no_login_and_no_code(in_files: Logins, tmp_path: Path, content: bytes) -> None:
    login, value = in_files.add("", "")
    (tmp_path / "logins" / f"login-{login.id}").write_bytes(content)
    assert in_files.find(value) is None
    assert in_files.all() == []
    code = code_of(in_files)
    next((tmp_path / "logins").glob("code-*")).write_bytes(content)
    assert not in_files.take_code(code)


def test_a_full_disk_leaves_no_draft_behind(in_files: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Unavailable, match="no space left on device"):
        in_files.add("", "")
    with pytest.raises(OSError, match="No space"):
        in_files.make_code()
    assert list((tmp_path / "logins").iterdir()) == []


def test_what_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    store = FileStore(tmp_path)
    store.open()
    os.chown(store.folder, 1001, 0)
    store.put_code("digest", 5)
    store.put(Login("0" * 16, "", 0, 9, "", ""))
    assert {path.stat().st_uid for path in store.folder.iterdir()} == {1001}


# -- without files


@pytest.mark.parametrize(("alone", "kept"), [(True, Kept.MEMORY), (False, Kept.NOWHERE)])
def test_without_a_folder_it_says_why(tmp_path: Path, alone: bool, kept: Kept) -> None:
    (tmp_path / NOT_A_FOLDER).write_text("")
    logins = Logins(tmp_path / NOT_A_FOLDER)
    logins.start(alone=alone)
    assert logins.kept is kept
    assert "cannot be written (not a directory)" in logins.problem
    assert (logins.make_code() is None) is (kept is Kept.NOWHERE)


def test_a_signed_cookie_is_good_for_twelve_hours_and_one_token(clock: Clock) -> None:
    logins = Logins(None, clock)
    value = logins.sign(b"token")
    assert logins.is_signed(value, b"token")
    assert not logins.is_signed(value, b"another")
    clock.now += SIGNED_SECONDS
    assert not logins.is_signed(value, b"token")


@pytest.mark.parametrize(
    "change", ["{kind}.9{until}.{mac}", "x{kind}.{until}.{mac}", "{kind}.{until}.", "{kind}..", "", "{kind}.x.{mac}"]
)
def test_a_changed_one_is_not(clock: Clock, change: str) -> None:
    logins = Logins(None, clock)
    kind, until, mac = logins.sign(b"token").split(".")
    assert not logins.is_signed(change.format(kind=kind, until=until, mac=mac), b"token")


@pytest.mark.parametrize("until", ["９" * 3, "1" * 30, "-1", "1e9", "\xff"])
def test_an_expiry_that_is_no_number_is_refused(clock: Clock, until: str) -> None:
    assert not Logins(None, clock).is_signed(f"signed.{until}.\xff", b"token")
