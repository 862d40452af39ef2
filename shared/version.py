"""The version of Leads: what the API's document and `leads_build_info` say."""

VERSION = "0.1.0"
