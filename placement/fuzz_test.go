package placement

import "testing"

// FuzzControlRecords: whatever is on the disk, decoding it neither panics nor hangs, and a decoded
// record can be encoded.
func FuzzControlRecords(f *testing.F) {
	f.Add(appendUsage(nil, usage{last: 5, window: 1, now: 2, before: 3, total: 4}))
	if raw, err := (checkpoint{Cycle: 1, Running: true}).encode(); err == nil {
		f.Add(raw)
	}
	f.Add([]byte(`{"version":1,"crc32c":0,"pins":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u := decodeUsage(raw)
		if decodeUsage(appendUsage(nil, u)) != u {
			t.Errorf("%+v", u)
		}
		if c, err := decodeCheckpoint(raw); err == nil {
			if _, err := c.encode(); err != nil {
				t.Error(err)
			}
		}
		_, _ = decodePins(raw) // invalid input is an error
	})
}
