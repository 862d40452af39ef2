"""The words of resumes, so that staff find leads by them: read out of the files, indexed, looked up."""
