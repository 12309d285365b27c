import hashlib
import re
from pathlib import Path

import claude_proxy.web

VENDOR = Path(claude_proxy.web.__file__).parent / "static" / "vendor"
ROW = re.compile(r"^\| [\w.-]+ \| [\d.]+ \| [\w.-]+ \| (\S+) \| ([0-9a-f]{64}) \|$", re.MULTILINE)
BUNDLES = ("redoc", "swagger-ui")  # they contain further packages


def test_vendored_files_are_those_of_their_packages() -> None:
    rows = dict(ROW.findall((VENDOR / "VERSIONS.md").read_text()))
    code = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.suffix in (".js", ".css")}
    assert set(rows) == code
    for name, digest in rows.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_each_vendored_package_brings_its_licence() -> None:
    for folder in (path for path in VENDOR.iterdir() if path.is_dir()):
        assert re.search("licen[cs]e|clause bsd", (folder / "LICENSE").read_text().lower())
        if folder.name in BUNDLES:
            assert list(folder.glob("*.LICENSE.txt")), "the licences of what the bundle contains"
