"""Expressions: three evaluations that must agree, derivatives and differences, separated data, generated code."""

import re
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.expressions import evaluation
from sandbox.expressions.calculus import gradient, hessian
from sandbox.expressions.emission import emit, functions_used
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import settled
from sandbox.expressions.parsing import parse, symbol
from sandbox.expressions.separation import separate
from sandbox.tools.errors import InputError

NAMES = ("a", "b", "c")
SYMBOLS = tuple(symbol(name) for name in NAMES)
SOURCES = dict(zip(SYMBOLS, NAMES, strict=True))
POINTS = [(0.7301, -1.1207, 0.4519), (-0.3127, 0.9103, 1.3331), (1.2113, 0.2711, -0.8317)]
LAW = settings(max_examples=150, deadline=None, derandomize=True, database=None)

# The emitted names in arithmetic of 60 digits, so that rounding cannot hide a wrong formula.
PRECISE = {
    "real": mpmath.mpf,
    **{name: getattr(mpmath, name) for name in ("exp", "log", "sin", "cos", "tanh", "sqrt", "erf")},
    "pow": mpmath.power,
    "abs_": abs,
    "max_": max,
    "min_": min,
    "sign": mpmath.sign,
    "relu": lambda x: x if x > 0 else mpmath.mpf(0),
    "step": lambda x: mpmath.mpf(1 if x > 0 else 0),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
WIDE = ("relu", "step", "tanh", "sin", "cos", "abs", "sign", "sigmoid", "erf", "softplus")


def _grown(inner):
    unary = st.sampled_from([*(f"{name}({{}})" for name in WIDE), "-({})", "({})**2", "({})**5", "(1 + ({})**2)**-1"])
    narrow = st.sampled_from(
        [
            "sqrt(1 + ({})**2)",
            "log(2 + sin({}))",
            "exp(-({})**2)",
            "(2 + cos({}))**0.3",
            "(2 + sin({}))**-2.5",
            "(2 + sin({}))**1.5",
            "({})/3",
        ]
    )
    binary = st.sampled_from(
        ["{} + {}", "({}) - ({})", "({})*({})", "max({}, {})", "min({}, {})", "({})/(2 + ({})**2)"]
    )
    return st.one_of(
        st.builds(lambda form, x: form.format(x), unary | narrow, inner),
        st.builds(lambda form, x, y: form.format(x, y), binary, inner, inner),
    )


TEXTS = st.recursive(st.sampled_from([*NAMES, "2", "0.3", "1.7", "pi", "e"]), _grown, max_leaves=7)


def exact(expression, point):
    """Return the value by SymPy's own evalf at 40 digits."""
    values = {s: sympy.Rational(Fraction(x)) for s, x in zip(SYMBOLS, point, strict=True)}
    return mpmath.mpf(sympy.Float(expression.xreplace(values).evalf(40), 40)._to_mpmath(140))


def executed(lines, point, functions=PRECISE):
    """Return the values of o0, o1, ... after the emitted lines."""
    space = {**functions, **{n: functions["real"](x) for n, x in zip(NAMES, point, strict=True)}}
    exec("\n".join(lines), space)
    return space


def assert_evaluations_agree(expressions, lines, function):
    """Emitted code, vectorised NumPy and SymPy give the same numbers."""
    arrays = function(*np.array(POINTS).T)
    for p, point in enumerate(POINTS):
        with mpmath.workdps(60):
            space = executed(lines, point)
            for k, expression in enumerate(expressions):
                expected = exact(expression, point)
                # Constants are written as float64, hence 1e-13 of the largest intermediate number.
                scale = max(1, *(abs(space[n]) for n in space if re.fullmatch(r"[to]\d+", n)))
                assert abs(space[f"o{k}"] - expected) <= 1e-11 * scale
                assert abs(arrays[k][p] - float(expected)) <= 1e-10 * float(scale)


def assert_slopes(expression, slopes):
    """The slopes are the central differences of the expression."""
    for point in POINTS:
        for d, slope in enumerate(slopes):
            step = Fraction(1, 10**11)
            ends = [[Fraction(x) + s * step * (i == d) for i, x in enumerate(point)] for s in (-1, 1)]
            low, high = (exact(expression, end) for end in ends)
            difference = (high - low) / (2 * mpmath.mpf(10) ** -11)
            assert abs(exact(slope, point) - difference) <= 1e-9 * (1 + abs(difference))


def assert_separated(expression, data, found):
    """Substituted statistics give the expression; they depend on data only, the rest on none, and all are needed."""
    back = found.expression.xreplace(dict(zip(found.symbols, found.statistics, strict=True)))
    assert sympy.expand(back - expression) == 0
    assert not found.expression.free_symbols & set(data)
    assert all(statistic.free_symbols <= set(data) for statistic in found.statistics)
    assert all(sympy.diff(found.expression, s, 2) == 0 for s in found.symbols)
    draws = np.random.default_rng(0).uniform(0.2, 1.8, (len(data), 400))
    columns = numpy_function(data, [sympy.S.One, *found.statistics])(*draws)
    assert np.linalg.matrix_rank(np.stack(columns), tol=1e-9) == 1 + len(found.statistics)


@LAW
@given(TEXTS)
def test_three_evaluations_agree(text):
    expression = parse(text, NAMES)
    expressions = [expression, *gradient(expression, SYMBOLS)]
    lines = emit({f"o{k}": e for k, e in enumerate(expressions)}, SOURCES, "")
    assert_evaluations_agree(expressions, lines, numpy_function(SYMBOLS, expressions))


@LAW
@given(TEXTS)
def test_gradient_is_the_central_difference(text):
    expression = parse(text, NAMES)
    with mpmath.workdps(40):
        assert_slopes(expression, gradient(expression, SYMBOLS))


@LAW
@given(TEXTS)
def test_gradient_is_that_of_sympy(text):
    """The expressions are identical, so that no kernel depends on the choice between the two."""
    expression = parse(text, NAMES)
    assert gradient(expression, SYMBOLS) == tuple(settled(sympy.diff(expression, s)) for s in SYMBOLS)


@settings(LAW, max_examples=30)
@given(TEXTS)
def test_hessian_is_the_difference_of_the_gradient(text):
    expression = parse(text, NAMES)
    rows = hessian(expression, SYMBOLS)
    with mpmath.workdps(40):
        for slope, row in zip(gradient(expression, SYMBOLS), rows, strict=True):
            assert_slopes(slope, row)


@pytest.mark.parametrize(("right", "wrong"), [("2*a", "2.00001*a"), ("2*a", "abs(2*a)"), ("2*a", "2*a + 0.0001*b")])
def test_broken_gradient_fails_its_law(right, wrong):
    expression = parse("a**2", NAMES)
    with mpmath.workdps(40):
        assert_slopes(expression, [parse(right, NAMES)])
        with pytest.raises(AssertionError):
            assert_slopes(expression, [parse(wrong, NAMES)])


@pytest.mark.parametrize("line", ["o0 = real(1.5) * a + b", "o0 = a - b", "o0 = real(1.5) * a - abs_(b)"])
def test_broken_code_fails_its_law(line):
    expression = parse("1.5*a - b", NAMES)
    function = numpy_function(SYMBOLS, [expression])
    assert_evaluations_agree([expression], emit({"o0": expression}, SOURCES, ""), function)
    with pytest.raises(AssertionError):
        assert_evaluations_agree([expression], [line], function)


def test_sums_inside_sums_keep_their_parentheses():
    """SymPy flattens such sums unless told otherwise, and its search for common parts may do so too."""
    a, b, c = SYMBOLS
    nested = sympy.Add(c, sympy.Mul(-1, a + b, evaluate=False), evaluate=False)
    with mpmath.workdps(60):
        space = executed(emit({"o0": nested}, SOURCES, ""), (1.0, 2.0, 4.0))
    assert space["o0"] == 1


def test_sympy_names_do_not_leak_through_generated_numpy():
    names = ["exp2", "numpy", "array", "erf_", "S"]
    function = numpy_function([symbol(n) for n in names], [parse("exp2 + 2*numpy + erf(array) + erf_*S", names)])
    assert function(1, 2, 0, 3, 4)[0] == 17


def test_bits_depend_neither_on_what_sympy_did_before_nor_on_the_process():
    """SymPy orders sums by name, and numbers its own names through a process: from 99 to 100 the order changes."""
    symbols = [symbol(f"w{k}") for k in range(9)]
    total = sympy.Add(*(sympy.sin((k + 1) * w) for k, w in enumerate(symbols)))
    points = np.random.default_rng(0).normal(size=(9, 10_000))

    def bits(make):
        evaluation._compiled.cache_clear()
        number = int(sympy.Dummy().name.partition("_")[2])
        for _ in range(10 ** len(str(number)) - 6 - number):
            sympy.Dummy()
        turned = make()(*points)[0]
        evaluation._compiled.cache_clear()
        return turned.tobytes(), make()(*points)[0].tobytes()

    turned, straight = bits(lambda: numpy_function(symbols, [total]))
    assert turned == straight
    turned, straight = bits(lambda: sympy.lambdify(symbols, [total], dummify=True))
    assert turned != straight


def test_numpy_function_broadcasts_and_never_warns():
    expressions = [parse(t, NAMES) for t in ("1/a", "exp(b)*1e200", "2", "c", "log(a) + (-1 + a)**0.5", f"{10**40}*a")]
    rows = np.array([[0.0], [1.0]])
    results = numpy_function(SYMBOLS, expressions)(rows, np.array([800.0, 0.0, 1.0]), 2)
    assert all(r.shape == (2, 3) and r.dtype == np.float64 and r.flags.writeable for r in results)
    assert np.isinf(results[0][0]).all()
    assert np.isnan(results[4][0]).all()
    identity = numpy_function(SYMBOLS[:1], SYMBOLS[:1])(rows)[0]
    identity[:] = 9
    assert rows[1, 0] == 1


def test_sigmoid_and_softplus_keep_their_digits_in_the_tails():
    x = np.array([-700.0, -40.0, -1e-9, 0.0, 3.0, 40.0, 800.0])
    sigmoid, softplus = numpy_function(SYMBOLS[:1], [parse("sigmoid(a)", NAMES), parse("softplus(a)", NAMES)])(x)
    with mpmath.workdps(400):
        expected = [(1 / (1 + mpmath.exp(-v)), mpmath.log1p(mpmath.exp(v))) for v in map(mpmath.mpf, x)]
        np.testing.assert_allclose(sigmoid, [float(s) for s, _ in expected], rtol=1e-14)
        np.testing.assert_allclose(softplus, [float(s) for _, s in expected], rtol=1e-14)
        for v, (_, s) in zip(x, expected, strict=True):
            assert abs(exact(parse("softplus(a)", NAMES), (v, 0, 0)) / s - 1) < 1e-35


DATA = (symbol("x"), symbol("y"))
SEPARABLE = [
    ("(y - a*b**2*x)**2/2", 3),
    ("(y - tanh(a)*x - b*x**2 - sin(x)*a)**2/2", 10),
    ("a*(x + 1)**2 + x**2", 2),
    ("x*y*a + 2*x*y*b + sqrt(x)*(2*x)**0.5*c", 2),
    ("(a*x + b)**4 - exp(y)*c/x", 5),
    ("a**2*b", 0),
    ("relu(x)*a + max(x, y)*b + 1/y + relu(a*b)", 3),
    ("(a + sqrt(2 - x))**2 + b*x", 2),
    ("(a + sqrt(x))**3 + b*sqrt(2*x)", 3),
    ("(a + sqrt(2 - x)*y)**4", 7),
    ("(x + y)**2 - x**2 - y**2 - 2*x*y + a", 0),
]


@pytest.mark.parametrize(("text", "count"), SEPARABLE)
def test_data_enter_through_these_moments_only(text, count):
    expression = parse(text, (*NAMES, "x", "y"))
    found = separate(expression, DATA)
    assert found is not None
    assert len(found.statistics) == count
    assert_separated(expression, DATA, found)


def test_roots_that_meet_leave_their_sign_behind():
    found = separate(parse("(a + sqrt(-x))**2 + b*x", (*NAMES, "x")), DATA[:1])
    assert set(found.statistics) == {DATA[0], sympy.sqrt(-DATA[0])}
    back = found.expression.xreplace(dict(zip(found.symbols, found.statistics, strict=True)))
    assert sympy.expand(back - parse("a**2 + 2*a*sqrt(-x) - x + b*x", (*NAMES, "x"))) == 0


def test_broken_separation_fails_its_law():
    expression = parse("(y - a*x)**2/2", (*NAMES, "x", "y"))
    found = separate(expression, DATA)
    broken = type(found)(found.statistics, found.symbols, found.expression + found.symbols[0] / 10**6)
    with pytest.raises(AssertionError):
        assert_separated(expression, DATA, broken)
    padded = type(found)(
        (*found.statistics, DATA[0] ** 2 + DATA[1] ** 2), (*found.symbols, symbol("_s9")), found.expression
    )
    with pytest.raises(AssertionError):
        assert_separated(expression, DATA, padded)


@pytest.mark.parametrize("text", ["tanh(a*x)", "relu(a*x + b)", "exp(a + x)", "(y - sigmoid(a*x))**2", "1/(a + x)"])
def test_entangled_data_are_not_separated(text):
    assert separate(parse(text, (*NAMES, "x", "y")), DATA) is None


def test_separation_beyond_the_caps_gives_up_quickly():
    start = time.perf_counter()
    for text in (
        "((a + b + x)**60*(a + y)**60)**30",
        "(a + b*x + c*y + x*y)**60",
        "*".join(f"(a + x*y**{i})" for i in range(40)),
    ):
        assert separate(parse(text, (*NAMES, "x", "y")), DATA) is None
    assert time.perf_counter() - start < 2


def test_derivatives_beyond_the_cap_are_refused_before_they_are_taken():
    product = sympy.Mul(*(SYMBOLS[0] + i for i in range(1, 901)))
    start = time.perf_counter()
    with pytest.raises(InputError, match="more than"):
        gradient(product, SYMBOLS)
    assert time.perf_counter() - start < 1


def test_emitted_text_has_only_real_constants_and_plain_signs():
    texts = [
        "-a/3 - 0.5*b*c + 2",
        "-a*b",
        "1/(a*b**5) - 7",
        "sqrt(2)*pi*exp(-a**2/2)",
        "-c**1.5 + a**(1/3)",
        "-(a + b)",
    ]
    lines = emit({f"g[{k} * LANES + i]": parse(t, NAMES) for k, t in enumerate(texts)}, SOURCES, "    ")
    for line in lines:
        right = line.split(" = ")[1]
        assert line.startswith("    ")
        assert not re.search(r"(?<![\w.])\d", re.sub(r"real\([0-9.e-]+\)", "", right))
        assert "real(-" not in right
        assert "**" not in right
        assert "real(1.0) *" not in right
    assert functions_used(lines) == {"exp", "sqrt", "pow"}
    assert emit({"o": parse("a*b/2 - c", NAMES)}, SOURCES, "") == ["o = real(0.5) * (a * b) - c"]
    assert emit({"o": parse("-a*b", NAMES)}, SOURCES, "") == ["o = -(a * b)"]


def test_integer_powers_are_few_products():
    for power in range(1, 65):
        lines = emit({"o0": parse(f"a**{power}", NAMES)}, SOURCES, "")
        assert sum(line.count("*") for line in lines) <= 2 * power.bit_length()
        with mpmath.workdps(60):
            assert executed(lines, (3.0, 0.0, 0.0))["o0"] == 3**power


def test_temporaries_avoid_every_name_in_sight():
    expression = parse("tanh(a*b) + tanh(a*b)**2", NAMES)
    lines = emit({"t1[i]": expression}, {SYMBOLS[0]: "t0[i]", SYMBOLS[1]: "t2"}, "")
    assert [line.split(" = ")[0] for line in lines] == ["t3", "t1[i]"]


def test_single_precision_stays_single():
    functions = {"real": np.float32, **{n: getattr(np, n) for n in ("exp", "tanh", "sqrt")}}
    lines = emit({"o0": parse("0.1*tanh(a)/3 + exp(-b**2/2)*sqrt(2) + a**5", NAMES)}, SOURCES, "")
    assert type(executed(lines, (0.3, 0.2, 0.0), functions)["o0"]) is np.float32


def test_long_sums_are_cut_into_short_statements():
    names = [f"w{i}" for i in range(900)]
    symbols = [symbol(n) for n in names]
    expression = sympy.Add(*(v * w for v, w in pairwise(symbols)))
    lines = emit({"o": expression}, {s: s.name for s in symbols}, "")
    assert max(line.count(" + ") for line in lines) < 64
    space = dict.fromkeys(names, 2.0)
    exec("\n".join(lines), space)
    assert space["o"] == numpy_function(symbols, [expression])(*[2.0] * 900)[0] == 4 * 899


def test_text_and_order_do_not_depend_on_the_hash_seed():
    """Another process with other string hashes writes the same code, so that a kernel cache keyed by it works."""
    program = """
from sandbox.expressions.calculus import gradient
from sandbox.expressions.emission import emit
from sandbox.expressions.parsing import parse, symbol
from sandbox.expressions.separation import separate
names = ["w1", "w2", "w3", "x", "y", "z"]
s = [symbol(n) for n in names]
e = parse("(y - tanh(w1*z)*x - w2*x**2*sin(x) - exp(w3*w1)*x*z)**2/2 + relu(w1*w2*w3)*w1*w2", names)
print(emit({str(i): g for i, g in enumerate([e, *gradient(e, s)])}, {q: q.name for q in s}, ""))
print(separate(parse("(y - w1*x - w2*x**2*sin(x) - w3*x*z)**2/2", names), s[3:]))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert "real(" in outputs.pop()
