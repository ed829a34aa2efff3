"""What the bounds are computed from, read off a network, a sample and files: norms, growth, margins, flatness."""
