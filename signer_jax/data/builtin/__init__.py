"""The built-in corpus: templated sentences in two language pairs, signed by a 3D avatar. No download."""
