package hot

// origin is where a value was before the cache lost it.
type origin uint32

const (
	fromSmall origin = iota // the small queue, or it was not admitted
	fromMain
	dropped // it was removed by the cache's user
	origins
)

// ghosts remembers values that the cache does not have, by hashes of 32 bits, and for how long: a
// ghost is as old as the number of bytes that the cache lost since from the same origin. It takes
// eight bytes for each ghost. Now and then a hash stands for two values, or a ghost is forgotten
// early because its group is full.
type ghosts struct {
	unit  int64          // bytes in which ages are measured
	lost  [origins]int64 // bytes that the cache lost so far
	slots []ghost        // in groups; their number is a power of two
}

// ghost is a value that the cache does not have. The zero value is an empty slot.
type ghost struct {
	hash uint32
	when uint32 // ghosts.lost in units, and the origin in the lowest bits
}

const (
	groupSize  = 8 // slots that a hash can be in: 64 bytes, a cache line
	fewest     = 128 * groupSize
	originBits = 2
	// agesPerCache is the number of units in the size of the cache. Ages wrap at 1,024 times its
	// size, when a ghost that is still in its slot appears to be young again.
	agesPerCache = 1 << 20
)

func newGhosts(cacheBytes int64) ghosts {
	return ghosts{unit: max(cacheBytes/agesPerCache, 1), slots: make([]ghost, fewest)}
}

// scatter returns the hash of a ghost, never 0.
func scatter(id uint64) uint32 { return max(uint32(id*0x9e3779b97f4a7c15>>32), 1) }

// group returns the slots that a hash can be in.
func (g *ghosts) group(hash uint32) []ghost {
	first := int(hash) * groupSize & (len(g.slots) - 1)
	return g.slots[first : first+groupSize]
}

// age is the number of bytes that the cache lost since, from the same origin.
func (g *ghosts) age(old ghost) int64 {
	const wrap = 1<<(32-originBits) - 1
	now := g.lost[old.origin()] / g.unit
	return (now - int64(old.when>>originBits)) & wrap * g.unit
}

func (g ghost) origin() origin { return origin(g.when & (1<<originBits - 1)) }

// take forgets a value, and returns where it was if it is not older than a number of bytes.
func (g *ghosts) take(id uint64, oldest int64) (from origin, found bool) {
	hash := scatter(id)
	group := g.group(hash)
	for i, old := range group {
		if old.hash == hash {
			group[i] = ghost{}
			return old.origin(), g.age(old) <= oldest
		}
	}
	return 0, false
}

// add remembers a value of a number of bytes. It takes the slot of the same value, else an empty
// one, else that of the oldest ghost of its group.
func (g *ghosts) add(id uint64, from origin, bytes int64) {
	g.lost[from] += bytes
	g.put(ghost{scatter(id), uint32(g.lost[from]/g.unit)<<originBits | uint32(from)})
}

func (g *ghosts) put(added ghost) {
	group := g.group(added.hash)
	victim := 0
	for i, old := range group {
		if old.hash == added.hash {
			victim = i
			break
		}
		if group[victim].hash != 0 && (old.hash == 0 || g.age(old) > g.age(group[victim])) {
			victim = i
		}
	}
	group[victim] = added
}

// holds makes room for the ghosts of a cache of so many values: two for each.
func (g *ghosts) holds(values int) {
	size := len(g.slots)
	for size < 2*values {
		size *= 2
	}
	if size == len(g.slots) {
		return
	}
	old := g.slots
	g.slots = make([]ghost, size)
	for _, each := range old {
		if each.hash != 0 {
			g.put(each)
		}
	}
}
