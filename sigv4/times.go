package sigv4

import (
	"net/url"
	"strconv"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// checkTime checks the time of a request by the rules of its place, and that the day of the scope
// is the day of the request.
func (c *credential) checkTime(now time.Time, query url.Values) error {
	t, ok := parseTime(c.time)
	if !ok {
		if c.place == Query {
			return s3err.AuthorizationQueryParameters.With("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
		}
		return s3err.AccessDenied.With(noDate)
	}
	if c.day != c.time[:8] {
		message := "Invalid credential date \"" + c.day + "\". This date is not the same as X-Amz-Date: \"" + c.time[:8] + "\"."
		if c.place == Query {
			return s3err.AuthorizationQueryParameters.With(message)
		}
		return headerMalformed(message)
	}
	if c.place == Query {
		return checkExpiry(t, now, query.Get("X-Amz-Expires"))
	}
	return checkSkew(t, now, c.time)
}

// checkSkew compares the time of a request, which was sent as text, with ours.
func checkSkew(t, now time.Time, text string) error {
	if skew := now.Sub(t); skew > maxSkew || skew < -maxSkew {
		return s3err.RequestTimeTooSkewed.About("RequestTime", text).About("ServerTime", now.UTC().Format(time.RFC3339)).
			About("MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10))
	}
	return nil
}

// parseTime parses timeFormat strictly: time.Parse accepts fractions of a second.
func parseTime(s string) (time.Time, bool) {
	if len(s) != len(timeFormat) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	ok := true
	number := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			ok = ok && '0' <= s[i] && s[i] <= '9'
			n = 10*n + int(s[i]-'0')
		}
		return n
	}
	year, month, day, hour, minute, second := number(0, 4), number(4, 6), number(6, 8), number(9, 11), number(11, 13), number(13, 15)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if h, m, s := t.Clock(); h != hour || m != minute || s != second || t.Day() != day || int(t.Month()) != month {
		ok = false // such as February 31
	}
	return t, ok
}

func checkExpiry(t, now time.Time, value string) error {
	seconds, err := strconv.ParseInt(value, 10, 32)
	switch {
	case err != nil:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires should be a number")
	case seconds < 0:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires must be non-negative")
	case seconds > maxExpires:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	case t.Sub(now) > maxSkew:
		return s3err.AccessDenied.With("Request is not valid yet.")
	}
	if end := t.Add(time.Duration(seconds) * time.Second); seconds == 0 || now.After(end) {
		return s3err.AccessDenied.With("Request has expired.").About("X-Amz-Expires", value).
			About("Expires", end.UTC().Format(time.RFC3339)).About("ServerTime", now.UTC().Format(time.RFC3339))
	}
	return nil
}
