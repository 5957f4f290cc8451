"""What a model looks at: maps, where they lie, and whether they matter to the decision."""
