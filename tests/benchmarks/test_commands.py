"""Every command of `benchmarks` says what it does and how it is started."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

ROOT = Path(benchmarks.__file__).parent
# What the speed benchmarks start in processes of their own takes no options.
COMMANDS = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in sorted(ROOT.rglob("*.py"))
    if "def main()" in path.read_text(encoding="utf-8") and path.parent.name != "speed"
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(name)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert f"python -m {name.removesuffix('.__main__')}" in capsys.readouterr().out
