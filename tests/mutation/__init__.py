"""Mutation testing of the code that numbers and promotions depend on: `make mutants`."""
