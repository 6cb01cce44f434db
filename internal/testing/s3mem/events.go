package s3mem

import (
	"context"
	"errors"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

// tellLocked writes a change into the streams of its bucket.
func (m *Memory) tellLocked(c cold.Change) {
	for stream, bucket := range m.streams {
		if bucket == c.Key.Bucket {
			m.told.Add(1)
			stream <- c
		}
	}
}

// Events implements the Notifier interface of tiers.
func (m *Memory) Events(string) cold.EventSource { return cold.Stream }

// Listen implements the Notifier interface of tiers.
func (m *Memory) Listen(ctx context.Context, bucket string, alive func(), changed func(cold.Change)) error {
	if m.Deaf.Load() {
		return errors.New("no stream")
	}
	stream := make(chan cold.Change, 100_000)
	m.mu.Lock()
	m.streams[stream] = bucket
	m.mu.Unlock()
	defer m.hangUp(stream)
	alive()
	ping := time.NewTicker(10 * time.Second)
	defer ping.Stop()
	for {
		select {
		case c, open := <-stream:
			if !open {
				return errors.New("the stream broke")
			}
			changed(c)
			m.taken.Add(1)
		case <-ping.C:
			alive()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AwaitEvents waits until event streams have delivered every change.
func (m *Memory) AwaitEvents() {
	for m.taken.Load() != m.told.Load() {
		time.Sleep(100 * time.Microsecond)
	}
}

func (m *Memory) hangUp(stream chan cold.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, open := m.streams[stream]; open {
		delete(m.streams, stream)
		m.loseLocked(stream)
	}
}

// loseLocked closes a stream; what is in it is lost.
func (m *Memory) loseLocked(stream chan cold.Change) {
	close(stream)
	for range stream {
		m.taken.Add(1)
	}
}

// BreakStreams ends all event streams. Undelivered changes are lost.
func (m *Memory) BreakStreams() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for stream := range m.streams {
		delete(m.streams, stream)
		m.loseLocked(stream)
	}
}

// Streams returns the number of open event streams.
func (m *Memory) Streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}
