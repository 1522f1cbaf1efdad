"""The kernel cache, seen from new processes: hits, identities, damage, and directories that cannot be used."""

import inspect
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest
from numba import types

from sandbox.commands import precompile
from sandbox.comparison.decomposition import RUNGS
from sandbox.compiled import cache, functions, lanes, random_numbers
from sandbox.compiled.cache import SEAL, cache_directory
from sandbox.compiled.scratch import Scratch
from sandbox.scenario.scenario import load
from sandbox.tools.errors import InputError

PROGRAM = """
import json, os, resource, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numba
from sandbox.compiled import functions, random_numbers as draws, scratch
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.kernel import build
from sandbox.model.regression import Regression, potential
from sandbox.model.prior import Distribution, Prior
from sandbox.dynamics.rules.langevin import Langevin
from sandbox.dynamics.rules.sgd import Sgd

def prior(scale):
    return Prior(("a",), (Distribution("normal", (0.0, scale)),))

def make(rate=0.1):
    return build(potential(("a",), "a**2/2"), prior(1.0), Sgd(rule="sgd", learning_rate=rate), Full(), reflecting=False)

def data(n, seed, **changes):
    given = dict(rate=0.1, batch=4, nbeta=1.0, scale=1.0) | changes
    line = Regression(("a",), ("a*x",), ("0",), {"x": Distribution.parse("normal(0, 1)")}, 1.0).sampled(n, seed)
    rule = Langevin(rule="langevin", step_size=given["rate"])
    gradient = Minibatch(minibatch=given["batch"], draw="with_replacement")
    return build(line, prior(given["scale"]), rule, gradient, nbeta=given["nbeta"])

def misses(name):
    return sum(sum(c.stats.cache_misses.values()) for c in getattr(draws, name).compiled.values())

DRAWS = ("fill_bits", "fill_normals", "draw_indices", "next_indices")

def again(make=make):
    # As a new process would: kernel and draws are forgotten, then built.
    for name in [name for name in sys.modules if name.startswith("sandbox_kernel_")]:
        del sys.modules[name]
    for name in DRAWS:
        getattr(draws, name).compiled.clear()
    kernel = make()
    return kernel.from_cache, position(kernel)

def position(kernel):
    import numpy as np
    blocks = kernel.pack(np.array([[1.0]]))
    kernel.advance(blocks, (0, 1), (0, 3), 3, draws.key(1, "a"))
    return kernel.unpack(blocks, 1)[0, 0]

with warnings.catch_warnings(record=True) as caught:
    # The usual filter of a program, which shows a warning once at each place.
    warnings.simplefilter("default")
    result = dict(CODE)
print(json.dumps(result | {"warnings": [str(w.message) for w in caught]}))
"""
HOUSE = Path(__file__).parents[2]
ONE = "hit=make().from_cache, position=position(make())"
EXPECTED = 0.9**3


def started(cache, code=ONE, folder=None, **environment):
    """A new process that evaluates dict(`code`) of PROGRAM with the cache directory `cache`."""
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(HOUSE)])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("CODE", code)],
        env={**os.environ, "SANDBOX_CACHE": str(cache), **paths, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return json.loads(output)


def run(cache, code=ONE, folder=None, **environment):
    return finished(started(cache, code, folder, **environment))


def kernels(cache):
    return sorted(path.parent.name for path in cache.glob(f"sandbox_kernel_*/{SEAL}"))


def files(cache):
    """The contents of all files, by their path."""
    return {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that one process has filled."""
    cache = tmp_path_factory.mktemp("warm") / "made" / "on demand"
    assert run(cache) == {"hit": False, "position": pytest.approx(EXPECTED), "warnings": []}
    return cache


def test_a_second_process_finds_the_machine_code(warm):
    assert run(warm) == {"hit": True, "position": pytest.approx(EXPECTED), "warnings": []}
    assert len(kernels(warm)) == 1
    assert {path.suffix for path in warm.iterdir()} == {"", ".lock", ".py"}


def test_another_value_needs_no_other_kernel(tmp_path):
    """Step size, groups of a batch, nbeta, prior scale, data and their seed are arguments: one compilation."""
    code = """positions=[position(data(*key, **changes)) for key, changes in [
        ((20, 1), {}), ((20, 1), {"rate": 0.2}), ((20, 1), {"batch": 8}), ((20, 1), {"nbeta": 2.0}),
        ((20, 1), {"scale": 0.5}), ((20, 2), {}), ((30, 1), {})]],
        compilations=sum(sum(c.stats.cache_misses.values()) for c in {data(20, 1).compiled, data(9, 9).compiled})"""
    result = run(tmp_path, code)
    assert len(set(result["positions"])) == 7
    assert result["compilations"] == 1
    assert len(kernels(tmp_path)) == 1


def test_a_batch_that_ends_in_a_part_of_a_group_needs_another_kernel(tmp_path):
    """Samples are added in groups of four: what adds the rest is compiled only where there is one."""
    code = """positions=[position(data(20, 1, batch=batch)) for batch in (3, 4, 8, 6, 10, 7)]"""
    assert len(set(run(tmp_path, code)["positions"])) == 6
    assert len(kernels(tmp_path)) == 4


def test_of_two_processes_at_once_one_compiles(tmp_path):
    processes = [started(tmp_path) for _ in range(2)]
    results = [finished(process) for process in processes]
    if cache.fcntl is not None:
        assert sorted(result["hit"] for result in results) == [False, True]
    for result in results:
        assert result["position"] == pytest.approx(EXPECTED)
        assert result["warnings"] == []
    assert len(kernels(tmp_path)) == 1


def test_a_process_that_is_killed_leaves_nothing_half_made(tmp_path):
    process = started(tmp_path)
    while process.poll() is None and not list(tmp_path.glob("sandbox_kernel_*.*/")):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not kernels(tmp_path)
    assert list(tmp_path.glob("sandbox_kernel_*.*/"))
    assert run(tmp_path) == {"hit": False, "position": pytest.approx(EXPECTED), "warnings": []}
    assert not list(tmp_path.glob("sandbox_kernel_*.*/"))
    assert run(tmp_path)["hit"]


def test_threads_share_what_one_of_them_compiles(tmp_path):
    """Kernels and the draws that they call, while another thread compiles a function of its own that calls them."""
    code = """built=len({id(kernel.compiled) for kernel in ThreadPoolExecutor(4).map(lambda k: data(20, 1), range(4))}),
        others=list(ThreadPoolExecutor(3).map(lambda work: work(), (
            lambda: position(make()),
            lambda: position(data(20, 1, batch=3)),
            lambda: numba.njit(lambda: draws.next_indices(scratch.scratch(512, numba.uint64), 3))(),
        )))[0], compilations=[misses(name) for name in DRAWS]"""
    result = run(tmp_path, code)
    assert result["built"] == 1
    assert result["others"] == pytest.approx(EXPECTED)
    assert result["compilations"] == [1] * 4


def test_off_leaves_nothing_behind(tmp_path):
    assert run("off", folder=tmp_path) == {"hit": False, "position": pytest.approx(EXPECTED), "warnings": []}
    assert not list(tmp_path.iterdir())


def test_a_relative_directory_is_one_too(tmp_path):
    """And a process that goes elsewhere has another one there."""
    code = ONE + """, elsewhere=(os.mkdir("other"), os.chdir("other"), again())[2]"""
    result = run("kept", code, tmp_path)
    assert not result["hit"]
    assert result["elsewhere"] == [False, pytest.approx(EXPECTED)]
    assert run("kept", folder=tmp_path)["hit"]
    assert kernels(tmp_path / "kept") == kernels(tmp_path / "other" / "kept") != []


def test_a_users_own_directory_for_numba_is_left_alone(tmp_path):
    own = tmp_path / "own"
    code = ONE + ", own=numba.config.CACHE_DIR"
    expected = {"hit": False, "position": pytest.approx(EXPECTED), "own": str(own), "warnings": []}
    assert run(tmp_path / "kernels", code, NUMBA_CACHE_DIR=str(own)) == expected
    assert run(tmp_path / "kernels", code, NUMBA_CACHE_DIR=str(own)) == expected | {"hit": True}
    assert not own.exists()


def test_without_the_compiler_a_kernel_says_so(wells, tmp_path):
    environment = {**os.environ, "SANDBOX_CACHE": str(tmp_path / "kernels"), "NUMBA_DISABLE_JIT": "1"}
    for arguments in (["run", "wells.yaml", "--quick", "--no-progress"], ["precompile", "wells.yaml"]):
        command = [sys.executable, "-m", "sandbox", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 1
        assert done.stderr.endswith(
            "the run failed: particles are moved by compiled code only: NUMBA_DISABLE_JIT must not be set\n"
        )
        assert "Traceback" not in done.stderr


def assert_one_warning(result, cache):
    assert result["position"] == pytest.approx(EXPECTED)
    assert len(result["warnings"]) == 1
    assert str(cache) in result["warnings"][0]


def test_a_cache_that_cannot_be_made_means_one_warning(tmp_path):
    """Below a file there is no directory; two kernels warn once."""
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "kernels"
    assert_one_warning(run(cache, ONE + ", other=position(data(20, 1))"), cache)


def test_a_cache_that_is_a_file_means_one_warning(tmp_path):
    cache = tmp_path / "kernels"
    cache.write_text("")
    assert_one_warning(run(cache), cache)


@pytest.mark.skipif(os.geteuid() == 0, reason="no directory is read-only to root")
def test_a_read_only_cache_means_one_warning(tmp_path):
    cache = tmp_path / "kernels"
    cache.mkdir(mode=0o500)
    assert_one_warning(run(cache), cache)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_full_disk_means_one_warning(tmp_path, size):
    """No byte can be written, or a kernel's text can and its machine code cannot; nothing unfinished is left."""
    code = f"full=resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})), "
    assert_one_warning(run(tmp_path, code + ONE + ", other=position(data(20, 1))"), tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == ({".lock", ".py"} if size else {".lock"})


@pytest.mark.skipif(not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="an older Numba cannot be told")
def test_machine_code_that_numba_puts_elsewhere_is_not_used(tmp_path):
    """It would have no digest."""
    found = [run(tmp_path, NUMBA_CACHE_LOCATOR_CLASSES="InTreeCacheLocator") for _ in range(2)]
    for result in found:
        assert_one_warning(result, tmp_path)
        assert not result["hit"]


def test_a_cache_that_others_may_write_to_is_not_read(tmp_path):
    cache = tmp_path / "kernels"
    run(cache)
    before = files(cache)
    for mode in (0o720, 0o702, 0o777):
        cache.chmod(mode)
        result = run(cache)
        assert_one_warning(result, cache)
        assert "others may write to it" in result["warnings"][0]
        assert not result["hit"]
        assert files(cache) == before
    cache.chmod(0o755)
    assert run(cache) == {"hit": True, "position": pytest.approx(EXPECTED), "warnings": []}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_another_user_is_not_read(tmp_path):
    cache = tmp_path / "kernels"
    run(cache)
    os.chown(cache, 12345, -1)
    result = run(cache)
    assert_one_warning(result, cache)
    assert not result["hit"]


def test_a_cache_is_made_for_its_user_alone(warm):
    assert stat.S_IMODE(warm.stat().st_mode) == 0o700


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_damaged_byte_is_noticed_wherever_it_is(warm, tmp_path):
    """Every byte of digests and indices, and each 499th of machine code; so is a file too many or too few."""
    (name,) = kernels(warm)
    folder = tmp_path / name
    shutil.copytree(warm / name, folder)
    assert cache._is_whole(folder)
    whole = files(folder)
    assert sorted(path.suffix for path in whole) == ["", ".nbc", ".nbi"]
    for path, content in whole.items():
        for place in range(0, len(content), 499 if path.suffix == ".nbc" else 1):
            (folder / path).write_bytes(flipped(content, place))
            assert not cache._is_whole(folder), (path, place)
        (folder / path).unlink()
        assert not cache._is_whole(folder), path
        (folder / path).write_bytes(content)
    (folder / "another").write_text("")
    assert not cache._is_whole(folder)
    (folder / "another").unlink()
    assert cache._is_whole(folder)


def changed(cache, change, suffixes=("", ".nbc", ".nbi")):
    for path in cache.glob("*/**/*"):
        if path.is_file() and path.suffix in suffixes:
            path.write_bytes(change(path.read_bytes()))


def page_of_zeros(cache):
    """As a full disk or a lost write leaves it."""
    changed(cache, lambda content: content[: len(content) // 2].ljust(len(content) // 2 + 4096, b"\0"))


def half_of_it(cache):
    changed(cache, lambda content: content[: len(content) // 2])


def nothing_left(cache):
    changed(cache, lambda content: b"")


def another_digest(cache):
    changed(cache, lambda content: b"0" * 64, ("",))


def no_digest(cache):
    for path in cache.glob(f"*/{SEAL}"):
        path.unlink()


def one_bit_of_machine_code(cache):
    changed(cache, lambda content: flipped(content, len(content) // 2), (".nbc",))


def one_bit_of_an_index(cache):
    changed(cache, lambda content: flipped(content, len(content) // 2), (".nbi",))


def no_machine_code(cache):
    for path in cache.glob("*/*/*.nbc"):
        path.unlink()


DAMAGES = (
    page_of_zeros,
    half_of_it,
    nothing_left,
    another_digest,
    no_digest,
    one_bit_of_machine_code,
    one_bit_of_an_index,
    no_machine_code,
)


def test_what_was_damaged_is_made_anew(tmp_path):
    """Whatever the damage, the next build compiles kernel and draws silently, and the one after that loads."""
    code = """first=again(lambda: data(20, 1)), damaged={damage.__name__: [
            (damage(Path(os.environ["SANDBOX_CACHE"])), *again(lambda: data(20, 1)))[1:] + (list(map(misses, DRAWS)),),
            again(lambda: data(20, 1)) + (list(map(misses, DRAWS)),),
        ] for damage in __import__("test_cache").DAMAGES}"""
    result = run(tmp_path, code)
    assert result["warnings"] == []
    (_, position) = result["first"]
    for name, (made, loaded) in result["damaged"].items():
        assert made == [False, position, [1] * 4], name
        assert loaded == [True, position, [0] * 4], name
    assert len(result["damaged"]) == len(DAMAGES)


def test_a_damaged_text_is_written_anew(warm):
    """Numba asks it whether a kernel has changed, and tracebacks quote it."""
    (text,) = warm.glob("*.py")
    right = text.read_bytes()
    for wrong in (flipped(right, 40), right[:-9], b"\xff"):
        text.write_bytes(wrong)
        assert run(warm) == {"hit": True, "position": pytest.approx(EXPECTED), "warnings": []}
        assert text.read_bytes() == right


def test_a_cache_may_be_moved(warm, tmp_path):
    """Numba compiles anew, as the text's path is another, and then there is machine code for both."""
    cache = tmp_path / "kernels"
    shutil.copytree(warm, cache)
    for hit in (False, True):
        assert run(cache) == {"hit": hit, "position": pytest.approx(EXPECTED), "warnings": []}
    assert len(list(cache.glob("sandbox_kernel_*/*/*.nbc"))) == 2


SHARED = (
    """position=position(data(20, 1)), hit=data(20, 1).from_cache, compiled={name: misses(name) for name in DRAWS}"""
)


def test_what_kernels_share_is_compiled_once(tmp_path):
    """Draws are compiled by themselves: a process whose kernel is new finds them, and they give the same bits."""
    first = run(tmp_path, SHARED)
    assert set(first["compiled"].values()) == {1}
    for name in kernels(tmp_path):
        shutil.rmtree(tmp_path / name)
    assert run(tmp_path, SHARED) == first | {"compiled": dict.fromkeys(first["compiled"], 0)}
    half_of_it(tmp_path)
    assert run(tmp_path, SHARED) == first


def test_one_text_may_have_two_signatures(monkeypatch, tmp_path):
    monkeypatch.setenv("SANDBOX_CACHE", str(tmp_path))
    text = "def advance(x):\n    return x / 2\n"
    halves = [functions.compile_module(text, [], "advance", (real,)) for real in (types.float64, types.int64)]
    assert [half.nopython_signatures[0].args for half in halves] == [(types.float64,), (types.int64,)]
    assert len(kernels(tmp_path)) == 2


def test_a_kernel_that_cannot_be_compiled_fails_each_time(monkeypatch, tmp_path):
    monkeypatch.setenv("SANDBOX_CACHE", str(tmp_path))
    for _ in range(2):
        with pytest.raises(numba.TypingError):
            functions.compile_module("def advance(x):\n    return x.nothing\n", [], "advance", (types.int64,))
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock", ".py"}


def test_a_literal_is_no_type(tmp_path):
    """Kernels of two dimensions call for as many draws as they need; what draws is one piece of machine code."""
    code = """kernels=[build(
            potential(names, "+".join(names)), Prior(names, (Distribution("normal", (0.0, 1.0)),) * len(names)),
            Langevin(rule="langevin", step_size=0.1), Full(), nbeta=1.0, reflecting=False,
        ).from_cache for names in (("a",), ("a", "b", "c", "d", "e"))],
        pieces={name: len(getattr(draws, name).compiled) for name in ("fill_bits", "fill_normals")}"""
    assert run(tmp_path, code) == {
        "kernels": [False, False], "pieces": {"fill_bits": 1, "fill_normals": 1}, "warnings": []
    }  # fmt: skip


def identity(text, modules):
    return functions._hash(text, functions._sources(modules))


def test_identity_holds_all_that_a_kernel_depends_on(monkeypatch):
    """Its text, the sources of the modules it uses and of those they use, and the versions of the compilers."""
    modules = ["sandbox.compiled.random_numbers", "sandbox.dynamics.rules.sgd"]
    name = identity("text", modules)
    assert identity("text", reversed(modules)) == name
    others = {identity("texts", modules), identity("text", [*modules, "sandbox.compiled.lanes"])}
    read = inspect.getsource
    for edited in ("sandbox.compiled.random_numbers", "sandbox.dynamics.rules.sgd", "sandbox.compiled.functions"):
        with monkeypatch.context() as patch:
            patch.setattr(inspect, "getsource", lambda m, e=edited: read(m) + "\n# edited" * (m.__name__ == e))
            others.add(identity("text", modules))
    for module in ("numpy", "numba", "llvmlite"):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[module], "__version__", "0.0")
            others.add(identity("text", modules))
    with monkeypatch.context() as patch:
        patch.setattr(functions.llvmlite.binding, "get_host_cpu_name", lambda: "another")
        others.add(identity("text", modules))
    assert len(others - {name}) == 9
    with monkeypatch.context() as patch:
        patch.setattr(inspect, "getsource", lambda m: read(m) + "\n# edited" * (m.__name__ == "sandbox.model.prior"))
        assert identity("text", modules) == name


def test_a_shared_functions_name_holds_its_types(monkeypatch):
    """And the sources of those that are ours: reflect's own module knows nothing of scratch memory."""
    reflect, real = lanes.reflect.py_func, types.float64
    ours, arrays = (Scratch(real), real, real), (types.Array(real, 1, "C"), real, real)
    names = [functions._name(reflect, of) for of in (ours, arrays)]
    assert len({*names, functions._name(random_numbers.fill_bits.py_func, arrays)}) == 3
    read = inspect.getsource
    monkeypatch.setattr(
        inspect, "getsource", lambda m: read(m) + "\n# edited" * (m.__name__ == "sandbox.compiled.scratch")
    )
    assert functions._name(reflect, ours) != names[0]
    assert functions._name(reflect, arrays) == names[1]


def test_functions_that_functions_use_are_part_of_the_identity(tmp_path, monkeypatch):
    """A rule may take a helper from a module of its own."""
    (tmp_path / "helper_of_a_rule.py").write_text(
        "from sandbox.compiled.functions import lane_function\n@lane_function\ndef halve(x):\n    return x / 2\n"
    )
    (tmp_path / "rule_with_a_helper.py").write_text("from helper_of_a_rule import halve\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert functions._reached(["rule_with_a_helper"]) == [
        "helper_of_a_rule", "rule_with_a_helper", "sandbox.compiled.cache", "sandbox.compiled.functions"
    ]  # fmt: skip


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SANDBOX_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.setenv("SANDBOX_CACHE", "a/b")
    assert cache_directory() == Path.cwd() / "a" / "b"
    monkeypatch.setenv("SANDBOX_CACHE", "off")
    assert cache_directory() is None
    monkeypatch.setenv("SANDBOX_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "sandbox" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "sandbox" / "kernels"


def test_precompiled_kernels_are_there_for_a_run(tmp_path, wells):
    def sandbox(*arguments):
        environment = {**os.environ, "SANDBOX_CACHE": str(tmp_path / "kernels")}
        command = [sys.executable, "-m", "sandbox", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    done = sandbox("precompile", "wells.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 kernels compiled, 0 were there: {tmp_path / 'kernels'}\n"
    before = sorted((tmp_path / "kernels").iterdir())
    assert sandbox("run", "wells.yaml").returncode == 0
    assert sorted((tmp_path / "kernels").iterdir()) == before


def test_kernels_of_a_decomposition_are_precompiled_too():
    scenario = load(str(HOUSE / "scenarios" / "uneven_crossing.yaml"))
    names = [population.name for population in precompile._populations(scenario)]
    assert names[: len(scenario.populations)] == [population.name for population in scenario.populations]
    assert len(names) == len(scenario.populations) + len(RUNGS) - 1


def test_precompiling_in_vain_is_refused(wells, monkeypatch):
    with pytest.raises(InputError, match=r"no scenario 'wels\.yaml'"):
        precompile.precompile(["wells.yaml", "wels.yaml"])
    monkeypatch.setenv("SANDBOX_CACHE", "off")
    with pytest.raises(InputError, match="SANDBOX_CACHE is 'off'"):
        precompile.precompile(["wells.yaml"])
