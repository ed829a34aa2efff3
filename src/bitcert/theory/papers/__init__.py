"""One module a paper (or a family of rows): functions ``BoundInputs -> BoundValue``, registered by their decorator."""
