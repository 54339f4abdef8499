package flare

import (
	"container/list"
	"sync"
	"time"
)

// This file is layer 5 (surface): sessions in memory.

// sessionsDefault is how many sessions a MemorySessions keeps by default.
const sessionsDefault = 100_000

// MemorySessions is a SessionStore in memory, for one process: a restart ends all
// sessions. The zero value is ready. It must not be copied.
type MemorySessions struct {
	// MaxSessions is how many are kept, default 100,000; negative: any number. For one
	// more, the one that was saved or loaded longest ago is forgotten.
	MaxSessions int

	now   func() time.Time // nil: time.Now
	mu    sync.Mutex
	byID  map[string]*list.Element // guarded by mu, as all below
	order list.List                // of *memorySession, the last used first
}

type memorySession struct {
	id      string
	data    []byte
	expires time.Time
}

func (m *MemorySessions) clock() time.Time {
	if m.now != nil {
		return m.now()
	}
	return time.Now()
}

// Load returns what Save has kept, until it expires. The error is always nil.
func (m *MemorySessions) Load(id string) (data []byte, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[id]
	if e == nil {
		return nil, false, nil
	}
	s := e.Value.(*memorySession)
	if !m.clock().Before(s.expires) {
		m.drop(e)
		return nil, false, nil
	}
	m.order.MoveToFront(e)
	return s.data, true, nil
}

// Save keeps data. The error is always nil.
func (m *MemorySessions) Save(id string, data []byte, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byID[id]; e != nil {
		m.drop(e)
	}
	if m.byID == nil {
		m.byID = make(map[string]*list.Element)
	}
	m.byID[id] = m.order.PushFront(&memorySession{id, data, expires})
	most := m.MaxSessions
	if most == 0 {
		most = sessionsDefault
	}
	for now := m.clock(); ; {
		last := m.order.Back()
		if last == nil || (most < 0 || m.order.Len() <= most) && now.Before(last.Value.(*memorySession).expires) {
			return nil
		}
		m.drop(last)
	}
}

// Delete forgets a session. The error is always nil.
func (m *MemorySessions) Delete(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byID[id]; e != nil {
		m.drop(e)
	}
	return nil
}

// drop forgets a session. mu is held.
func (m *MemorySessions) drop(e *list.Element) {
	m.order.Remove(e)
	delete(m.byID, e.Value.(*memorySession).id)
}
