"""The kernel cache, seen from new processes: hits, identities, damage, and directories that cannot be used."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import jit, machine_code, precompile
from sandbox.decomposition import RUNGS
from sandbox.errors import InputError
from sandbox.machine_code import cache_directory
from sandbox.scenario import load

PROGRAM = """
import json, os, sys, warnings
from pathlib import Path
from sandbox import draws
from sandbox.gradients import Full, Minibatch
from sandbox.kernel import build
from sandbox.loss import Regression, potential
from sandbox.prior import Distribution, Prior
from sandbox.rules import Langevin, Sgd

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

def again():
    # As a new process would: the kernel is forgotten, then built.
    for name in [name for name in sys.modules if name.startswith("sandbox_kernel_")]:
        del sys.modules[name]
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
HOUSE = Path(__file__).parents[1]
ONE = "hit=make().from_cache, position=position(make())"
EXPECTED = 0.9**3


def started(cache, code=ONE):
    """A new process that evaluates dict(`code`) of PROGRAM with the cache directory `cache`."""
    program = PROGRAM.replace("CODE", code)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "SANDBOX_CACHE": str(cache), "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return json.loads(output)


def run(cache, code=ONE):
    return finished(started(cache, code))


def kernels(cache):
    return sorted(path.name for path in cache.glob("advance-*.code"))


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that one process has filled."""
    cache = tmp_path_factory.mktemp("warm") / "made" / "on demand"
    assert run(cache) == {"hit": False, "position": pytest.approx(EXPECTED), "warnings": []}
    return cache


def test_a_second_process_finds_the_machine_code(warm):
    assert run(warm) == {"hit": True, "position": pytest.approx(EXPECTED), "warnings": []}
    assert len(kernels(warm)) == 1
    assert not list(warm.rglob("*.part"))


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
    if machine_code.fcntl is not None:
        assert sorted(result["hit"] for result in results) == [False, True]
    for result in results:
        assert result["position"] == pytest.approx(EXPECTED)
        assert result["warnings"] == []
    assert len(kernels(tmp_path)) == 1


def test_off_leaves_nothing_behind(tmp_path):
    program = started("off")
    assert finished(program) == {"hit": False, "position": pytest.approx(EXPECTED), "warnings": []}
    assert not Path("off").exists()


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


def changed(cache, change):
    for path in cache.glob("*.code"):
        path.write_bytes(change(path.read_bytes()))


def page_of_zeros(cache):
    """As a full disk or a lost write leaves it."""
    changed(cache, lambda content: content[: len(content) // 2].ljust(len(content) // 2 + 4096, b"\0"))


def half_of_it(cache):
    changed(cache, lambda content: content[: len(content) // 2])


def nothing_left(cache):
    changed(cache, lambda content: b"")


def another_seal(cache):
    changed(cache, lambda content: bytes(32) + content[32:])


def sealed_in_part(cache):
    """Fewer bytes than a digest has."""
    changed(cache, lambda content: content[:20])


DAMAGES = (page_of_zeros, half_of_it, nothing_left, another_seal, sealed_in_part)


def test_what_was_damaged_is_made_anew(warm, tmp_path):
    """Whatever the damage, the next build compiles silently, and the one after that hits."""
    cache = tmp_path / "copy"
    shutil.copytree(warm, cache)
    code = """damaged={damage.__name__: (damage(Path(os.environ["SANDBOX_CACHE"])), again(), again())[1:]
        for damage in __import__("test_cache").DAMAGES}"""
    result = run(cache, code)
    assert result["warnings"] == []
    for name, (first, second) in result["damaged"].items():
        assert first == [False, pytest.approx(EXPECTED)], name
        assert second == [True, pytest.approx(EXPECTED)], name
    assert len(result["damaged"]) == len(DAMAGES)


SHARED = """position=position(data(20, 1)), hit=data(20, 1).from_cache,
    compiled={name: sum(getattr(draws, name).stats.cache_misses.values())
        for name in ("fill_bits", "fill_normals", "draw_indices", "next_indices")}"""


def test_what_kernels_share_is_compiled_once(tmp_path):
    """Draws are compiled by themselves: a process whose kernel is new finds them, and they give the same bits."""
    first = run(tmp_path, SHARED)
    assert set(first["compiled"].values()) == {1}
    for path in tmp_path.glob("advance-*.code"):
        path.unlink()
    assert run(tmp_path, SHARED) == first | {"compiled": dict.fromkeys(first["compiled"], 0)}
    half_of_it(tmp_path)
    assert run(tmp_path, SHARED) == first


def test_draws_are_compiled_ahead(tmp_path):
    run(tmp_path, "none=draws.compile_draws()")
    assert set(run(tmp_path, SHARED)["compiled"].values()) == {0}


def test_a_literal_is_no_type(tmp_path):
    """Kernels of two dimensions call for as many draws as they need; what draws is one piece of machine code."""
    code = """kernels=[build(
            potential(names, "+".join(names)), Prior(names, (Distribution("normal", (0.0, 1.0)),) * len(names)),
            Langevin(rule="langevin", step_size=0.1), Full(), nbeta=1.0, reflecting=False,
        ).from_cache for names in (("a",), ("a", "b", "c", "d", "e"))],
        pieces={name: len(getattr(draws, name).overloads) for name in ("fill_bits", "fill_normals")}"""
    assert run(tmp_path, code) == {
        "kernels": [False, False], "pieces": {"fill_bits": 1, "fill_normals": 1}, "warnings": []
    }  # fmt: skip


def identity(text, modules):
    return jit._hash(text, jit._sources(modules))


def test_identity_holds_all_that_a_kernel_depends_on(monkeypatch):
    """Its text, the sources of the modules it uses and of those they use, and the versions of the compilers."""
    modules = ["sandbox.draws", "sandbox.rules.sgd"]
    name = identity("text", modules)
    assert identity("text", reversed(modules)) == name
    others = {identity("texts", modules), identity("text", [*modules, "sandbox.block"])}
    read = inspect.getsource
    for edited in ("sandbox.draws", "sandbox.rules.sgd", "sandbox.jit"):
        with monkeypatch.context() as patch:
            patch.setattr(inspect, "getsource", lambda m, e=edited: read(m) + "\n# edited" * (m.__name__ == e))
            others.add(identity("text", modules))
    for module in ("numpy", "numba", "llvmlite"):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[module], "__version__", "0.0")
            others.add(identity("text", modules))
    with monkeypatch.context() as patch:
        patch.setattr(jit.llvmlite.binding, "get_host_cpu_name", lambda: "another")
        others.add(identity("text", modules))
    assert len(others - {name}) == 9
    with monkeypatch.context() as patch:
        patch.setattr(inspect, "getsource", lambda m: read(m) + "\n# edited" * (m.__name__ == "sandbox.prior"))
        assert identity("text", modules) == name


def test_functions_that_functions_use_are_part_of_the_identity(tmp_path, monkeypatch):
    """A rule may take a helper from a module of its own."""
    (tmp_path / "helper_of_a_rule.py").write_text(
        "from sandbox.jit import lane_function\n@lane_function\ndef halve(x):\n    return x / 2\n"
    )
    (tmp_path / "rule_with_a_helper.py").write_text("from helper_of_a_rule import halve\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert jit._reached(["rule_with_a_helper"]) == [
        "helper_of_a_rule", "rule_with_a_helper", "sandbox.jit", "sandbox.machine_code"
    ]  # fmt: skip


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SANDBOX_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
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
