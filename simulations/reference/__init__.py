"""Numbers made from a public data set, which runs over other patients begin with."""
