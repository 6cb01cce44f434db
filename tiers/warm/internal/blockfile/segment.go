package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// segment is a file of records. It is written once, from its head to its footer, and removed whole.
// Readers may use its file until it is closed: then they get os.ErrClosed.
type segment struct {
	number uint32
	file   *os.File

	// Guarded by Store.mu.
	end     int64    // where the next record begins
	live    int64    // bytes of records in the index
	disk    int64    // bytes of the disk that it occupies, once it is sealed
	writers int      // records that are being written
	full    bool     // it takes no more records
	sealed  bool     // it has a footer
	records []record // of a segment without a footer
}

// suffix is the end of the names of segments.
const suffix = ".blocks"

// path is the name of the file of a segment.
func path(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%010d", number)+suffix)
}

// numberOf returns the number of a segment by the name of its file, false for another file.
func numberOf(name string) (uint32, bool) {
	digits, is := strings.CutSuffix(name, suffix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), is && err == nil && len(digits) == 10
}

// createSegment creates the file of a segment. first is the highest write number in use.
func createSegment(dir string, ring ring, number uint32, first uint64) (*segment, error) {
	file, err := os.OpenFile(path(dir, number), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	head := header(segmentMagic, number)
	binary.BigEndian.PutUint64(head[16:], first)
	ring.close(head)
	if _, err := file.WriteAt(head, 0); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return &segment{number: number, file: file, end: headBytes}, nil
}

// openSegment opens the file of a segment that an earlier process wrote. It takes no more records.
func openSegment(dir string, ring ring, number uint32) (s *segment, records []record, first uint64, err error) {
	file, err := os.Open(path(dir, number))
	if err != nil {
		return nil, nil, 0, err
	}
	info, err := file.Stat()
	if err == nil {
		records, first, err = ring.read(file, number, info.Size())
	}
	if err != nil {
		return nil, nil, 0, errors.Join(err, file.Close())
	}
	return &segment{number: number, file: file, end: info.Size(), disk: onDisk(info), full: true, sealed: true}, records, first, nil
}

// remove removes the file. Its readers get os.ErrClosed from then on.
func (s *segment) remove() error {
	if err := os.Remove(s.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.file.Close()
}

// store writes a record. The header comes last: where it is missing the record does not exist.
func (s *segment) store(ring ring, r *record, payload []byte) error {
	if _, err := s.file.WriteAt(payload, r.offset()+headBytes); err != nil {
		return err
	}
	head := make([]byte, headBytes)
	ring.putRecord(head, s.number, r)
	_, err := s.file.WriteAt(head, r.offset())
	return err
}

// seal writes the footer, and returns how many bytes of the disk the file occupies. A segment without a
// footer is read by the headers of its records.
func (s *segment) seal(ring ring, records []record, end int64) (disk int64, err error) {
	if _, err := s.file.WriteAt(ring.footer(s.number, records, end), end); err != nil {
		return 0, err
	}
	startWriteback(s.file)
	info, err := s.file.Stat()
	if err != nil {
		return 0, err
	}
	return onDisk(info), nil
}

// onDisk is how many bytes a file occupies. Some file systems count blocks when they write them, so it
// is at least the length.
func onDisk(info os.FileInfo) int64 {
	bytes := info.Size()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		bytes = max(bytes, int64(st.Blocks)*512)
	}
	return bytes
}
