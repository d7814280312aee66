"""Floor 2: near-duplicate slices, images and volumes of unlabelled data: hashing, similarity, selection, audit.

Source: Wolf et al. 2024, "Less is More", Computers in Biology and Medicine 183:109242, arXiv 2410.14524.
"""
