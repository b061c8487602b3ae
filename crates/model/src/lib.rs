//! Bytes in, integers out, the same bits everywhere: the transformer, its kernels, its score, its training.
