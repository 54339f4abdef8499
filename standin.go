package flare

type routeMatch struct{ n int }

func (m *routeMatch) reset()                                 {}
func (m *routeMatch) patternString() string                  { return "" }
func (m *routeMatch) has(string) bool                        { return false }
func (m *routeMatch) value(path, name string) (string, bool) { return "", false }
func (m *routeMatch) clone() routeMatch                      { return *m }
