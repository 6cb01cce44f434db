package tiers

// wholeBytes is the size up to which an object that is not known yet is
// fetched by the one request that learns of it. Of a larger one that request
// brings the first segment, and the rest comes by parallel requests.
const wholeBytes = 64 << 20

// segment is the number of blocks of e that one of several parallel requests
// fetches.
func (ft *fetcher) segment(e *entry) int64 { return max(1, int64(ft.config.FetchBytes)/e.block) }

// segmentEnd is the first block behind the segment of block n of e.
func (ft *fetcher) segmentEnd(e *entry, n int64) int64 { return (n/ft.segment(e) + 1) * ft.segment(e) }

// parallel reports whether an object is fetched by parallel requests from the start.
func (ft *fetcher) parallel(e *entry) bool {
	return e.Size > wholeBytes && ft.inParts(e)
}

// inParts reports whether an object, if it is large, is fetched by several requests.
func (ft *fetcher) inParts(e *entry) bool {
	return ft.config.ParallelFetches > 1 && !ft.noRanges.has(e.origin)
}
