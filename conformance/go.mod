module flare/conformance

go 1.26.0

require flare v0.0.0

replace flare => ../
