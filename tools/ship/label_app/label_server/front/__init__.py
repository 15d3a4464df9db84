"""What stands in front of every route of MONAI Label and refuses what must not reach it; the standard library only.

Only the checks of a label's voxels take nibabel and SimpleITK, when a label arrives.
"""
