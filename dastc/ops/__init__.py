"""The hot operators, a folder each: the reference that defines it, its registration, its public function."""
