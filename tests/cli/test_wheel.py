"""The wheel: everything that the packages need, and an `onerec` that works outside a checkout."""

import zipfile
from pathlib import Path

import pytest
from command_line import CONFIGS, ROOT, onerec
from hatchling.build import build_wheel

PACKAGES = ("onerec", "tokenizer", "rl")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel = folder / build_wheel(str(folder))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_it_holds_every_file_of_the_packages_and_the_configs(installed: Path) -> None:
    expected = {f"{package}/{name}" for package in PACKAGES for name in files_below(ROOT / package)}
    expected |= {f"onerec/configs/{name}" for name in files_below(CONFIGS)}
    marks = {f"{package}/py.typed" for package in PACKAGES}
    assert marks | {"onerec/configs/schema.json", "onerec/report/templates/report.html.jinja"} <= expected
    (facts,) = installed.glob("*.dist-info")
    assert {name for name in files_below(installed) if not name.startswith(facts.name)} == expected
    assert "onerec = onerec.cli:main" in (facts / "entry_points.txt").read_text(encoding="utf-8")


def test_the_command_finds_its_configs_outside_a_checkout(installed: Path, tmp_path: Path) -> None:
    done = onerec("config", "own.yaml", "name=mine", cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"# onerec config {installed / 'onerec' / 'configs' / 'own.yaml'} name=mine\nname: mine "
    )
    done = onerec("config", "no.yaml", cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 2
    assert done.stderr.endswith("shipped config: beauty.yaml, demo.yaml, kuairand.yaml, own.yaml\n")
