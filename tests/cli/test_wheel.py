"""The built wheel, installed beside other distributions that own modules of our packages' names."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*call, **options):
    return subprocess.run(list(map(str, call)), capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the files that git knows or would add, so that nothing untracked slips in."""
    folder = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "out", cwd=folder)
    assert built.returncode == 0, built.stderr[-2000:]
    (found,) = (folder / "out").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    done = run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", folder, wheel)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def python(installed, tmp_path):
    """A function that runs code with the installed wheel, after these folders on the path."""

    def call(code, *earlier, cwd=tmp_path):
        path = os.pathsep.join(map(str, [*earlier, installed]))
        return run(sys.executable, "-c", code, cwd=cwd, env={**os.environ, "PYTHONPATH": path})

    return call


@pytest.fixture(params=["module", "package", "namespace"])
def foreign(request, tmp_path):
    """A folder with somebody else's `trainer`; without an `__init__.py` Python prefers any package that has one."""
    folder = tmp_path / "theirs"
    package = folder / "trainer"
    if request.param == "module":
        folder.mkdir()
        (folder / "trainer.py").write_text("whose = 'theirs'\n")
    else:
        package.mkdir(parents=True)
        (package / "config.py").write_text("whose = 'theirs'\n")
        if request.param == "package":
            (package / "__init__.py").write_text("whose = 'theirs'\n")
    return folder


def test_the_wheel_holds_what_is_needed_and_no_more(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    info = {name for name in tops if name.endswith(".dist-info")}
    assert tops - info == {"entrocraft.py", "entropy_theory", "trainer", "simulations", "figures"}
    for folder in ("trainer/presets", "trainer/base_models/countdown-0.2m", "figures/data", "figures/ledger/words"):
        for path in filter(Path.is_file, (ROOT / folder).rglob("*")):
            assert path.relative_to(ROOT).as_posix() in names
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("entropy_theory", "trainer", "simulations", "figures")
        for path in (ROOT / package).rglob("*.py")
    }
    assert sources <= names
    assert not {name for name in names if "test" in name or "__pycache__" in name or "benchmark" in name}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    metadata = zipfile.ZipFile(wheel).read(f"{info.pop()}/METADATA").decode()
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def test_theory_works_from_the_wheel(python, installed):
    code = "import torch, entrocraft\nprint(round(entrocraft.theory.entropy(torch.zeros(4)).item(), 4))\n"
    code += "import sys; print('transformers' in sys.modules); print(entrocraft.theory.__file__)"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1.3863", "False", str(installed / "entropy_theory" / "__init__.py")]


def test_its_own_packages_win_over_others_on_the_path(python, foreign, installed):
    """Earlier on the path, and in the current folder."""
    code = "import entrocraft, sys\nprint(entrocraft.load_config('--config', 'released').algorithm.filter)\n"
    code += "print(sys.modules['trainer'].__file__)\nprint(len(sys.path) == len(set(sys.path)))"
    for earlier, cwd in (([foreign], foreign.parent), ([], foreign)):
        done = python(code, *earlier, cwd=cwd)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == ["released", str(installed / "trainer" / "__init__.py")]


@pytest.mark.parametrize("foreign", ["module", "package"], indirect=True)
def test_others_keep_their_own_after_ours(python, foreign, installed):
    """Importing entrocraft alone takes no name: the path is as before."""
    code = "import sys; before = list(sys.path)\nimport entrocraft; entrocraft.TrainConfig\nprint(before == sys.path)"
    done = python(code, foreign)
    assert done.stdout == "True\n", done.stderr
    done = python("import entrocraft, trainer; print(trainer.__path__ if hasattr(trainer, '__path__') else 0)", foreign)
    assert str(installed) not in done.stdout


@pytest.mark.parametrize("foreign", ["module", "package"], indirect=True)
def test_a_foreign_trainer_that_is_there_already_is_named(python, foreign, installed):
    """Mixing two packages under one name would fail later and elsewhere."""
    done = python("import trainer, entrocraft\nentrocraft.TrainConfig", foreign)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: entrocraft needs its own package 'trainer'")
    assert "imported already" in last
    assert "rename" in last


def test_the_command_runs_from_the_wheel(installed, tmp_path):
    script = installed / "bin" / "entrocraft"
    assert script.is_file()
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = run(sys.executable, script, "--version", cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (0, "0.1.0\n"), done.stderr
    settings = ["--steps=1", "--rollout.prompts=4", "--evaluation.prompts=0", "--output=run"]
    done = run(sys.executable, script, "train", *settings, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").is_file()
    assert '"git_commit": null' in (tmp_path / "run" / "environment.json").read_text()
