package mtasts_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
)

func TestTheFormOfARecord(t *testing.T) {
	t.Parallel()
	id32 := strings.Repeat("a1", 16)
	for _, c := range []struct {
		name, txt, id string
		err           error
	}{
		{"the example of RFC 8461 section 3.1", "v=STSv1; id=20160831085700Z;", "20160831085700Z", nil},
		{"without the last delimiter", "v=STSv1; id=20160831085700Z", "20160831085700Z", nil},
		{"without blanks", "v=STSv1;id=1", "1", nil},
		{"sts-field-delim is *WSP ; *WSP", "v=STSv1 \t; \tid=1 ; ", "1", nil},
		{"an id of 32 characters", "v=STSv1; id=" + id32, id32, nil},
		{"an extension after the id", "v=STSv1; id=1; foo.bar_baz-1=!~:<>", "1", nil},
		{"an extension before the id", "v=STSv1; foo=bar; id=1;", "1", nil},
		{"an id in capitals is an extension", "v=STSv1; ID=2; id=1;", "1", nil},
		{"of a duplicated field the first counts", "v=STSv1; id=1; id=2;", "1", nil},

		{"nothing", "", "", mtasts.ErrNoRecord},
		{"SPF", "v=spf1 -all", "", mtasts.ErrNoRecord},
		{"TLSRPT", "v=TLSRPTv1; rua=mailto:a@example.com", "", mtasts.ErrNoRecord},
		{"does not begin with v=STSv1;", "v=STSv1", "", mtasts.ErrNoRecord},
		{"another version", "v=STSv2; id=1;", "", mtasts.ErrNoRecord},
		{"a longer version", "v=STSv10; id=1;", "", mtasts.ErrNoRecord},
		{"the version is case-sensitive", "v=stsv1; id=1;", "", mtasts.ErrNoRecord},
		{"a blank before the version", " v=STSv1; id=1;", "", mtasts.ErrNoRecord},
		{"blanks around the =", "v = STSv1; id=1;", "", mtasts.ErrNoRecord},
		{"the version is not first", "id=1; v=STSv1;", "", mtasts.ErrNoRecord},

		{"sts-id record is required", "v=STSv1;", "", mtasts.ErrBadRecord},
		{"only an extension", "v=STSv1; foo=bar;", "", mtasts.ErrBadRecord},
		{"an empty id", "v=STSv1; id=;", "", mtasts.ErrBadRecord},
		{"an id of 33 characters", "v=STSv1; id=" + id32 + "a;", "", mtasts.ErrBadRecord},
		{"an id with a hyphen", "v=STSv1; id=2016-08-31;", "", mtasts.ErrBadRecord},
		{"an id with other letters", "v=STSv1; id=é;", "", mtasts.ErrBadRecord},
		{"blanks around the = of the id", "v=STSv1; id = 1;", "", mtasts.ErrBadRecord},
		{"a blank within the id", "v=STSv1; id=1 2;", "", mtasts.ErrBadRecord},
		{"two delimiters", "v=STSv1;; id=1;", "", mtasts.ErrBadRecord},
		{"two delimiters at the end", "v=STSv1; id=1;;", "", mtasts.ErrBadRecord},
		{"blanks at the end without a delimiter", "v=STSv1; id=1 ", "", mtasts.ErrBadRecord},
		{"another delimiter", "v=STSv1; id=1, foo=bar", "", mtasts.ErrBadRecord},
		{"a field without =", "v=STSv1; id=1; foo", "", mtasts.ErrBadRecord},
		{"an extension without a value", "v=STSv1; id=1; foo=", "", mtasts.ErrBadRecord},
		{"an extension with = in it", "v=STSv1; id=1; foo=a=b", "", mtasts.ErrBadRecord},
		{"an extension with a blank in it", "v=STSv1; id=1; foo=a b", "", mtasts.ErrBadRecord},
		{"an extension whose name begins with a hyphen", "v=STSv1; id=1; -foo=a", "", mtasts.ErrBadRecord},
		{"an extension with a name of 33 characters", "v=STSv1; id=1; " + id32 + "x=a", "", mtasts.ErrBadRecord},
		{"a line end", "v=STSv1; id=1;\n", "", mtasts.ErrBadRecord},
		{"a NUL", "v=STSv1; id=1\x00;", "", mtasts.ErrBadRecord},
		{"quotes that belong to the zone file", `v=STSv1; id="1";`, "", mtasts.ErrBadRecord},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			id, err := mtasts.RecordID([]string{c.txt})
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.id, id)
		})
	}
}

func FuzzRecordID(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1 ;foo=bar; id=1 ; ")
	f.Fuzz(func(t *testing.T, txt string) {
		id, err := mtasts.RecordID([]string{txt})
		if err != nil {
			require.Empty(t, id)
			return
		}
		require.True(t, strings.HasPrefix(txt, "v=STSv1"))
		require.Regexp(t, `^[A-Za-z0-9]{1,32}$`, id)
		require.Contains(t, txt, "id="+id)
		// The id alone makes the same record.
		again, err := mtasts.RecordID([]string{"v=STSv1; id=" + id + ";"})
		require.NoError(t, err)
		require.Equal(t, id, again)
		// A further extension changes nothing.
		if strings.HasSuffix(txt, ";") {
			again, err = mtasts.RecordID([]string{txt + " x=y;"})
			require.NoError(t, err)
			require.Equal(t, id, again)
		}
	})
}

// The id is a small part of a record that may be as long as a DNS message. A policy or a failure that keeps the id must
// not keep the record, because their bounds do not count it.
func TestAnIDDoesNotKeepItsRecord(t *testing.T) {
	t.Parallel()
	record := "v=STSv1; id=20260101; x=" + strings.Repeat("x", 1<<10)
	id, err := mtasts.RecordID([]string{record})
	require.NoError(t, err)
	require.Equal(t, "20260101", id)
	from, to := uintptr(unsafe.Pointer(unsafe.StringData(record))), uintptr(unsafe.Pointer(unsafe.StringData(id)))
	require.False(t, to >= from && to < from+uintptr(len(record)), "the id is in the memory of the record")
}

func TestRecordID(t *testing.T) {
	t.Parallel()
	one, two := "v=STSv1; id=1;", "v=STSv1; id=2;"
	id, err := mtasts.RecordID([]string{"v=spf1 -all", one, "v=STSv2; id=3;"})
	require.NoError(t, err, "records about other things are discarded first")
	require.Equal(t, "1", id)
	_, err = mtasts.RecordID([]string{one, two})
	require.ErrorIs(t, err, mtasts.ErrManyRecords)
	_, err = mtasts.RecordID(nil)
	require.ErrorIs(t, err, mtasts.ErrNoRecord)
}
