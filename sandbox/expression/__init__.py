"""Text -> symbolic expression through a closed grammar; derivatives; data apart from parameters; generated code."""

from sandbox.expression.calculus import gradient, hessian
from sandbox.expression.conditions import parse_conditions
from sandbox.expression.emission import emit, functions_used
from sandbox.expression.evaluation import numpy_function
from sandbox.expression.functions import FUNCTIONS, RESERVED
from sandbox.expression.parsing import check_name, parse, symbol
from sandbox.expression.pieces import Pieces, split
from sandbox.expression.separation import Separated, separate

__all__ = [
    "FUNCTIONS",
    "RESERVED",
    "Pieces",
    "Separated",
    "check_name",
    "emit",
    "functions_used",
    "gradient",
    "hessian",
    "numpy_function",
    "parse",
    "parse_conditions",
    "separate",
    "split",
    "symbol",
]
