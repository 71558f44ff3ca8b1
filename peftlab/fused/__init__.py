"""Parts of a model that compute the same in fewer operations and keep less for the backward pass.

Autograd keeps what each operation of a layer needs, also where two multiplications would give it back. Here a whole
part is one operation with a backward of its own, as in Liger kernels (https://arxiv.org/abs/2410.10989) and Unsloth.
"""
