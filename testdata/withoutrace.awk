# Prints a regular expression of the tests that do nothing, or less, with the race detector, and the directories of their
# packages. Make runs it over the files of tests that ask testkit whether the detector is on, or that are not built with
# it. Such a question outside a test is an error: the name of the test would be unknown.

FNR == 1 { whole = 0; test = "" }
/^\/\/go:build !race$/ { whole = 1 }
/^func / {
	test = ""
	if (match($0, /^func Test[A-Za-z0-9_]*\(t /)) {
		test = substr($0, 6, RLENGTH - 8)
		if (whole) add()
	}
}
/^[^\/]*testkit\.(WithoutRace|Race)/ {
	if (test == "") {
		print FILENAME ":" FNR ": call this in a test, so that make test finds its name" > "/dev/stderr"
		failed = 1
		exit
	}
	add()
}
END {
	if (failed || names == "") exit 1
	print "^(" names ")$" dirs
}

function add(    dir) {
	if (!(test in seen)) {
		seen[test] = 1
		names = names (names == "" ? "" : "|") test
	}
	dir = FILENAME
	sub(/\/[^\/]*$/, "", dir)
	if (!(dir in known)) {
		known[dir] = 1
		dirs = dirs " " dir
	}
}
