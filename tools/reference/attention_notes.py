"""What the reference page says of each attention module besides its docstring and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NOTHING = "Nothing found."


class Note(NamedTuple):
    """What is known of one module.

    Args:
        public: what was wrong in the public version consulted, in plain words.
        use: when to use the module.
    """

    public: str
    use: str


NOTES: Mapping[str, Note] = MappingProxyType(
    {
        "axial_attention": Note(
            NOTHING,
            "For context along whole axes on grids too large for attention between all pairs of voxels. One module "
            "links voxels on a common line only; `sequential=True` links all. It does not know positions.",
        ),
        "bam": Note(
            "The spatial branch is not padded by its dilation: it runs on 7x7 maps only, and shrinks those to 1x1, so "
            "that its gate no longer depends on the place.",
            "At the end of a level, as its authors place it, where a gate over channels and voxels with some "
            "surroundings is wanted. It keeps its input, so it can only strengthen.",
        ),
        "cbam": Note(
            "The input is added to the output, which the paper does not do, and the kernel is 49 wide by default.",
            "A good first choice after a block of convolutions: cheap, and it gates channels and voxels. With "
            "`kernel_size=3` the spatial gate costs little on large grids.",
        ),
        "coordinate_attention": Note(
            NOTHING,
            "Where what lies on the same line or in the same plane matters, at little cost: it has a gate for every "
            "place along every axis. It does not know the place: when a volume is moved, its gates move along.",
        ),
        "criss_cross_attention": Note(
            "The mask of infinities is always made on the CPU, so that the module fails on a GPU.",
            "For context along lines with one softmax over all axes and weights that are shared by its steps. "
            "`recurrence=3` links all voxels of a volume. It stores a map: keep to grids of at most some 32x32x32.",
        ),
        "double_attention": Note(
            "The softmax names no axis and runs over the batch: the output of a sample depends on the others.",
            "For global context on large grids: time and memory are linear in the number of voxels.",
        ),
        "dual_attention": Note(
            "It ignores its arguments and is fixed to 512 channels. Its position part is another module than the "
            "paper's: full-width projections for query, key, value and output, and no learned scale.",
            "On the coarsest grids, where both affinities between voxels and affinities between channels are wanted. "
            "Time grows with the square of the number of voxels.",
        ),
        "eca": Note(
            "It fails on volumes, its kernel size does not follow the number of channels, and its convolution has a "
            "bias that the paper's has not.",
            "Where parameters count: a channel gate with a handful of weights. It mixes channels that are neighbours "
            "in memory only; `squeeze_excitation` mixes all.",
        ),
        "efficient_multi_head_self_attention": Note(
            "Height and width are fixed when it is built, and the mask is applied after the softmax, which gives NaN.",
            "For attention of all voxels to a coarser grid of keys, on small grids. Its heads exchange their logits, "
            "for which it stores maps; `transform=False` drops those, and most of the memory and time, on larger ones.",
        ),
        "external_attention": Note(
            "Its weights start so small (standard deviation 0.001) that the output is close to zero and stays so, it "
            "has no residual connection, and the second norm can divide by zero.",
            "For context on large grids at a cost linear in the number of voxels, where patterns common to all images "
            "are to be kept in a learned memory.",
        ),
        "global_filter": Note(
            "The size of the map is fixed when it is built, and without one the map is taken to be square.",
            "For mixing over the whole field of view without a map of weights. The filter does not depend on the "
            "image, it wraps around at the borders, and its parameters grow with the grid of its table.",
        ),
        "multi_head_self_attention": Note(
            NOTHING,
            "On the coarsest grids of a network, as the standard against which cheaper forms are judged. It does not "
            "know positions. Time grows with the square of the number of voxels.",
        ),
        "non_local": Note(
            "Nothing found in AlexHex7/Non-local_pytorch. The block of the attention U-Net that this collection "
            "started from does not run: its last matrix product takes values that are not transposed, and it asks a "
            "layer for a size that it does not have.",
            "At one eighth of the resolution or coarser, for one global view in a convolutional network. Pooled keys "
            "make it up to eight times cheaper than attention between all pairs. It starts as the identity.",
        ),
        "par_net_attention": Note(
            NOTHING,
            "As a block in place of a convolution rather than beside one: it holds a whole 3x3x3 convolution and more.",
        ),
        "polarized_self_attention": Note(
            NOTHING,
            "For segmentation, where gates over channels and over voxels are wanted at a cost linear in the number "
            "of voxels and without a spatial kernel.",
        ),
        "selective_kernel": Note(
            NOTHING,
            "Where structures differ much in size, in place of a convolution: it chooses its reach for each channel. "
            "It costs as much as one 3x3x3 convolution per branch.",
        ),
        "separable_self_attention": Note(
            "The ReLU on the values, which the paper has, is missing.",
            "For global context on large grids: linear in the number of voxels, one context vector for all voxels.",
        ),
        "shuffle_attention": Note(
            "Its method that initialises the weights is never called.",
            "Where parameters count and both channels and voxels are to be gated: a few weights, shared by the groups.",
        ),
        "sim_am": Note(
            NOTHING,
            "To try attention without a single parameter: nothing to learn and nothing to overfit. It strengthens "
            "what stands out from the mean of its channel.",
        ),
        "simplified_self_attention": Note(
            NOTHING,
            "To find out whether learned queries, keys and values matter: it has none. As slow as "
            "`multi_head_self_attention`.",
        ),
        "spatial_group_enhance": Note(
            "The shift of the gate starts at 0, which halves the features at the start.",
            "Where parameters count and each group of channels is to be gated by place: two weights per group.",
        ),
        "squeeze_excitation": Note(
            "With fewer channels than `reduction` the hidden width is 0 and the gate a constant 0.5. Its method that "
            "initialises the weights is never called.",
            "The first channel gate to try: cheap at every level. It tells channels apart, never places.",
        ),
        "triplet_attention": Note(
            NOTHING,
            "Where channels and places are to be gated together with very few parameters. Its large kernels make it "
            "slow for what it holds; a smaller `kernel_size` helps.",
        ),
        "ufo_attention": Note(
            "It divides zero by zero on an input of zeros.",
            "For attention in heads on grids where a map over all pairs of voxels is out of reach: linear in the "
            "number of voxels, no softmax.",
        ),
    }
)
