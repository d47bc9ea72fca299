"""One frame for every table that is made cell by cell: a study is rows x seeds, and a cell is one row with one seed."""
