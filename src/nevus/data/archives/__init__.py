"""Public lesion data sets by their published layouts."""
