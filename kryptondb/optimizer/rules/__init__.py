"""The rules of the optimizer: each file has one public function, whose docstring shows a plan before and after."""
