"""How models learn: one loop for every learner, recipes, and where training finds its pairs."""
