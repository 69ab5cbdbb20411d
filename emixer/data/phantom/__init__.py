"""The phantom: procedurally drawn chest images with reports and labels, in the layout of MIMIC-CXR-JPG.

    randomness   one stream of random numbers for each purpose and index
    canvas       an image's pixels in centimetres, enlarging, blurring, strands
    findings     what is true of a study; sampling: how often, how large; anatomy: the build of a patient
    chest, skeleton, vessels, opacities, devices    thicknesses of tissue, drawn from the truth
    image         thicknesses -> attenuation -> gray; lateral: the simpler side view
    wording, report    sentences and their layout
    subjects, study    who, when, which images
    damage, factors, collection    files, tables, broken files

Nothing here imports Ray: blocks of studies are distributed by `emixer.stages.phantom`. See docs/phantom.md.
"""
