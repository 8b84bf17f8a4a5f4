"""CMU AN4: names, numbers and spelled letters."""
