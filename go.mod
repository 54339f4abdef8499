module flare

go 1.26
