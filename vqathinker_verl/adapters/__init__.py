"""The rewards under other projects' signatures; imports none of those projects."""
