package s3mem

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw"
)

// State is the content of a Memory in a form that can be stored, so that a test can continue with
// an upstream that an earlier run has filled.
type State struct {
	Objects []StateObject
	Uploads []StateUpload
	Begun   int // multipart uploads so far, from which IDs are derived
}

// StateObject is an object of a State.
type StateObject struct {
	Key akigw.Key
	Stored
}

// StateUpload is an open multipart upload of a State.
type StateUpload struct {
	ID     string
	Key    akigw.Key
	Header http.Header
	Parts  map[int][]byte
}

// State returns what m holds, sorted. It shares the bodies with m.
func (m *Memory) State() (s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, o := range m.objects {
		s.Objects = append(s.Objects, StateObject{key, o})
	}
	slices.SortFunc(s.Objects, func(a, b StateObject) int {
		return strings.Compare(a.Key.Bucket+"/"+a.Key.Name, b.Key.Bucket+"/"+b.Key.Name)
	})
	for id, u := range m.uploads {
		s.Uploads = append(s.Uploads, StateUpload{id, u.key, u.header, maps.Clone(u.parts)})
	}
	slices.SortFunc(s.Uploads, func(a, b StateUpload) int { return strings.Compare(a.ID, b.ID) })
	s.Begun = m.counts["uploads"]
	return s
}

// Restore fills an empty m with the content of another Memory. It takes ownership of the bodies.
func (m *Memory) Restore(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range s.Objects {
		m.objects[o.Key] = o.Stored
	}
	for _, u := range s.Uploads {
		m.uploads[u.ID] = &memoryUpload{key: u.Key, header: u.Header, parts: maps.Clone(u.Parts), sums: map[int]string{}}
	}
	m.counts["uploads"] = s.Begun
}
