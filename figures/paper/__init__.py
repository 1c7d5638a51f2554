"""Figures 1 to 8 and the tables of arXiv 2604.26326 in our testbed, with the paper's published numbers beside ours."""
