"""OneRec in the open: from a log of what people watched to a list of what to show next, with one generative model.

Shape suffixes, used in names all over this package (`codes_BTL` has axes batch, time, level):

    B  batch: users or windows handled together      K  beams of one user
    T  time: positions of a history                  V  codebook size of a level
    L  code levels of a semantic ID                  D  model width
    P  target positions decoded in one pass          N  items of the catalogue
    C  evaluation cases (a user and one target)      M  most children any trie state has on a level
"""

__version__ = "0.1.0"
