"""Expressions from text in a closed grammar: their derivatives, data separated from parameters, and generated code."""
