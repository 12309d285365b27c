"""The books: where finished exchanges are kept, what they cost, and how they are read."""
