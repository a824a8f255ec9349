package doctor

import (
	"context"
	"fmt"
	"strings"
)

// checkOther tests a table of the site beside those of policyd: if Postfix cannot use it, mail waits as well. A user
// other than root may not be allowed to read it.
func (e *exam) checkOther(ctx context.Context, parameter, table string) {
	if !strings.Contains(table, ":") {
		e.found("postmap-fails", fmt.Sprintf("%s has %q, which is not of the form type:name", parameter, table),
			e.set(parameter, e.wanted(parameter)))
	} else if _, err := e.commands.Query(ctx, table, []string{notNexthop}); err != nil && e.User == 0 {
		e.found("postmap-fails", parameter+" has "+table+": "+err.Error(),
			"# correct the table, or remove it from "+parameter)
	}
}
