package tiers

// wholeBytes is the largest size up to which an unknown object is fetched by the request that
// learns of it. Of a larger object, that request fetches the first segment, and parallel requests
// fetch the rest.
const wholeBytes = 64 << 20

// segment is the number of blocks of e that each of several parallel requests fetches.
func (ft *fetcher) segment(e *entry) int64 { return max(1, int64(ft.config.FetchBytes)/e.block) }

// segmentEnd is the first block after the segment of block n of e.
func (ft *fetcher) segmentEnd(e *entry, n int64) int64 { return (n/ft.segment(e) + 1) * ft.segment(e) }

// parallel reports whether an object is fetched by parallel requests from the start.
func (ft *fetcher) parallel(e *entry) bool {
	return e.Size > wholeBytes && ft.inParts(e)
}

// inParts reports whether an object, if it is large, is fetched by more than one request.
func (ft *fetcher) inParts(e *entry) bool {
	return ft.config.ParallelFetches > 1 && !ft.noRanges.has(e.origin)
}
