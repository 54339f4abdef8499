package flare
