"""Everything that makes the same mathematics faster, behind one entry and one recipe key, ``model.acceleration``.

Autograd keeps what each operation of a layer needs, also where two multiplications would give it back. Here a whole
part is one operation with a backward of its own, as in Liger kernels (https://arxiv.org/abs/2410.10989) and Unsloth. A
part is taken for a known one by its results (``same_results``); all others run as they are.
"""
