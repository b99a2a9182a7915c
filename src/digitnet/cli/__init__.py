"""How a command behaves: parsing, validation of the input, error messages and exit codes."""
